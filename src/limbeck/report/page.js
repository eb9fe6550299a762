"use strict";
// Sorting, filtering, the choice of a class, the theme. Without this script the page shows everything in its first order.
(() => {
  const root = document.documentElement;
  const themes = ["auto", "light", "dark"];

  // what is kept between visits; a browser may refuse that to files
  const stored = (value) => {
    try {
      return value === undefined ? localStorage.getItem("limbeck-theme") : localStorage.setItem("limbeck-theme", value);
    } catch {
      return null;
    }
  };

  const setTheme = (theme) => {
    root.dataset.theme = themes.includes(theme) ? theme : "auto";
    const button = document.getElementById("theme");
    if (button) button.textContent = `theme: ${root.dataset.theme}`;
  };

  // the number that a cell begins with, without which it comes last
  const number = (text) => {
    const found = /^[<(]?\s*([-+−]?[\d,]*\.?\d+(?:e[-+]?\d+)?)/i.exec(text);
    return found ? Number(found[1].replaceAll(",", "").replace("−", "-")) : NaN;
  };

  function sortable(table) {
    const body = table.tBodies[0];
    const first = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const values = first.map((row) => row.cells[column].textContent.trim());
      const numbers = values.map(number);
      const numeric = numbers.filter((value) => !Number.isNaN(value)).length > values.filter((value) => !/^(–|)$/.test(value)).length / 2;
      const key = new Map(first.map((row, i) => [row, numeric ? numbers[i] : values[i]]));
      // the best first: the largest, but where a title says that less is better
      const orders = numeric && !head.textContent.includes("↓") ? ["descending", "ascending"] : ["ascending", "descending"];
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const order = before ? orders[orders.indexOf(before) + 1] : orders[0]; // the third click: as it was
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (order) head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const compare = (a, b) => {
          const [x, y] = [key.get(a), key.get(b)];
          if (!numeric) return sign * x.localeCompare(y);
          return Number.isNaN(x) - Number.isNaN(y) || (Number.isNaN(x) ? 0 : sign * (x - y));
        };
        body.append(...(order ? [...first].sort(compare) : first));
      });
    });
  }

  function filter() {
    const boxes = [...document.querySelectorAll(".chip input")];
    const marked = [...document.querySelectorAll("[data-row]")];
    const find = document.getElementById("find");

    const show = () => {
      const words = find.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
      const named = (box) => !words.length || words.some((word) => box.parentElement.textContent.toLowerCase().includes(word));
      const shown = new Set(boxes.filter((box) => box.checked && named(box)).map((box) => box.value));
      marked.forEach((element) => {
        element.toggleAttribute("hidden", !element.dataset.row.split(" ").every((row) => shown.has(row)));
      });
      document.getElementById("count").textContent = `${shown.size} of ${boxes.length}`;
    };
    const check = (value) => () => {
      boxes.forEach((box) => { box.checked = value; });
      show();
    };
    find.addEventListener("input", show);
    boxes.forEach((box) => box.addEventListener("change", show));
    document.getElementById("every").addEventListener("click", check(true));
    document.getElementById("none").addEventListener("click", check(false));
    show(); // a browser may have kept what was chosen before
  }

  function classes() {
    const select = document.getElementById("class");
    if (!select) return;
    const show = () => {
      document.querySelectorAll(".gallery").forEach((table) => table.classList.toggle("one", select.value !== ""));
      document.querySelectorAll("[data-class]").forEach((cell) => {
        cell.hidden = select.value !== "" && cell.dataset.class !== select.value;
      });
    };
    select.addEventListener("change", show);
    show();
  }

  // a link to a row opens it
  const open = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };

  setTheme(stored());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.addEventListener("click", () => {
      setTheme(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]);
      stored(root.dataset.theme);
    });
    setTheme(root.dataset.theme);
    document.querySelectorAll("#theme, #filter, .scripted").forEach((element) => { element.hidden = false; });
    document.querySelectorAll("table.data").forEach(sortable);
    document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
    filter();
    classes();
    addEventListener("hashchange", open);
    open();
  });
})();
