# sslcurr in a container: docs/install.md says how it is built and run.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

# The address of an index with torch's CPU builds; without it pip brings the CUDA build, which carries its own runtime.
ARG TORCH_INDEX=""
# Extras of pyproject.toml, as in EXTRAS=dicom,onnx.
ARG EXTRAS=""

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_CONSTRAINT=/source/requirements/locked.txt
WORKDIR /source

# Three layers, from what changes least: torch, what else is needed, sslcurr itself.
COPY pyproject.toml ./
COPY requirements/locked.txt requirements/needed.py requirements/
RUN python requirements/needed.py torch torchvision > torch.txt \
 && pip install ${TORCH_INDEX:+--no-deps --index-url "$TORCH_INDEX"} -r torch.txt
RUN python requirements/needed.py > needed.txt \
 && pip install -r needed.txt
COPY README-package.md LICENSE ./
COPY sslcurr sslcurr
# hadolint ignore=DL3013
RUN pip install ".${EXTRAS:+[$EXTRAS]}"

# Any user may run it: what libraries keep for themselves goes to a folder that all may write.
RUN useradd --uid 1000 --create-home sslcurr \
 && mkdir -p /runs /data /work \
 && chown sslcurr:sslcurr /runs /data /work
ENV SSLCURR_RUNS=/runs \
    SSLCURR_DATA=/data \
    XDG_CACHE_HOME=/tmp/cache \
    XDG_CONFIG_HOME=/tmp/config
USER 1000
WORKDIR /work
VOLUME ["/runs", "/data"]
ENTRYPOINT ["sslcurr"]
CMD ["--help"]
