"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const said = document.getElementById("said");

  // ---- dark and light: as the system has it, until the button is pressed
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => { try { return localStorage.getItem("sslcurr-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  if (["dark", "light"].includes(remembered())) root.dataset.theme = remembered();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("sslcurr-theme", root.dataset.theme); } catch { /* a page from a file may have no storage */ }
    name();
  });
  system.addEventListener("change", name);
  name();

  // ---- tables: sorted by their raw values, what is not known last both ways; a third press gives the order back
  const number = (text) => (text !== "" && !Number.isNaN(Number(text)) ? Number(text) : null);
  for (const block of document.querySelectorAll("[data-table]")) {
    const body = block.querySelector("tbody");
    const rows = [...body.rows];
    const heads = [...block.querySelectorAll("thead th")];
    body.classList.add("given");
    heads.forEach((head, place) => {
      const press = head.querySelector(".sort");
      if (!press) return;
      head.setAttribute("aria-sort", "none");
      press.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const after = { none: "ascending", ascending: "descending", descending: "none" }[before];
        for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", after);
        body.classList.toggle("given", after === "none");
        const value = (row) => row.cells[place].dataset.value ?? "";
        const numeric = head.classList.contains("number");
        const sign = after === "descending" ? -1 : 1;
        const compare = (a, b) => {
          const [x, y] = numeric ? [number(value(a)), number(value(b))] : [value(a) || null, value(b) || null];
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * (numeric ? x - y : x.localeCompare(y, "en", { numeric: true }));
        };
        body.append(...(after === "none" ? rows : [...rows].sort(compare)));
        said.textContent = `${press.textContent}: ${after === "none" ? "order as given" : `sorted ${after}`}`;
      });
    });
    const filter = block.querySelector("input");
    const shown = block.querySelector("output");
    // Every word has to be there; tasks with an arrow between them are one word.
    const plain = (text) => text.toLowerCase().replace(/\s*(->|→)\s*/g, "→");
    filter?.addEventListener("input", () => {
      const words = plain(filter.value).split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        const text = plain(row.textContent);
        row.hidden = !words.every((word) => text.includes(word));
        count += row.hidden ? 0 : 1;
      }
      shown.textContent = `${count} of ${rows.length} rows`;
    });
  }

  // ---- figures: the picture itself moves into the dialog, so that no id is there twice, and back again
  const viewer = document.getElementById("viewer");
  const stage = viewer.querySelector(".stage");
  const title = document.getElementById("viewer-title");
  let home = null;
  for (const figure of document.querySelectorAll("figure")) {
    const frame = figure.querySelector(".picture");
    const enlarge = figure.querySelector(".enlarge");
    const open = () => {
      home = frame;
      frame.style.minHeight = `${frame.offsetHeight}px`;
      title.textContent = figure.querySelector("figcaption span").textContent;
      stage.append(frame.firstElementChild);
      viewer.showModal();
    };
    enlarge.addEventListener("click", open);
    frame.addEventListener("click", () => { enlarge.focus(); open(); });
  }
  viewer.addEventListener("close", () => {
    if (home && stage.firstElementChild) home.append(stage.firstElementChild);
    if (home) home.style.minHeight = "";
    home = null;
  });
  document.getElementById("viewer-close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });

  // ---- commands
  for (const copy of document.querySelectorAll(".copy")) {
    copy.addEventListener("click", async () => {
      const code = copy.parentElement.querySelector("code");
      let done = true;
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        const selection = getSelection();
        selection.selectAllChildren(code);
        done = document.execCommand("copy"); // where a page from a file may not use the clipboard itself
      }
      copy.textContent = done ? "Copied" : "Selected";
      said.textContent = done ? "The command was copied" : "The command is selected";
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
  }

  // ---- print: what is folded and short is printed, too; long tables of stages and runs are not
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details.brief:not([open])")];
    for (const each of folded) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of folded) each.open = false; });
})();
