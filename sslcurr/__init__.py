"""sslcurr: curricula of self-supervised pretext tasks for image backbones where labels are scarce."""

__version__ = "0.1.0"
