// The table of jobs: search, filters, sorting, pages, details. What is shown goes into text nodes only, never into markup.
"use strict";
(() => {
  const PAGE_ROWS = 50;
  const get = (id) => document.getElementById(id);
  const data = JSON.parse(get("data").textContent);
  const { columns, texts, fates, causes, base } = data;
  const count = columns.key.length;
  const seconds = (name, row) => (columns[name] === null ? null : columns[name][row]);
  const reasonNames = new Map();

  // Columns: title, how a row reads, how it sorts (numbers before texts), and whether it stands to the right.
  const two = (number) => String(number).padStart(2, "0");
  const moment = (value) => {
    if (value === null) return "–";
    const at = new Date((base + value) * 1000).toISOString();
    return `${at.slice(5, 10)} ${at.slice(11, 19)}`;
  };
  const duration = (value) => {
    if (value === null) return "–";
    if (value < 60) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
    const whole = Math.round(value);
    const hours = Math.floor(whole / 3600), minutes = Math.floor((whole % 3600) / 60);
    return hours ? `${hours.toLocaleString("en")} h ${two(minutes)} min` : `${minutes} min ${two(whole % 60)} s`;
  };
  const waited = (row) => causes.reduce((sum, cause) => sum + (seconds(cause, row) ?? 0), 0);
  const arn = (row) => texts.arn_head[columns.arn_head[row]] + columns.arn[row];
  const shown = [
    { title: "name", text: (row) => columns.name[row], by: (row) => columns.name[row] },
    { title: "state", text: (row) => fates[columns.fate[row]], by: (row) => columns.fate[row] },
    { title: "trained model", text: (row) => texts.model[columns.model[row]], by: (row) => texts.model[columns.model[row]] },
    { title: "membership", text: (row) => texts.membership[columns.membership[row]].slice(0, 8), by: (row) => texts.membership[columns.membership[row]] },
    { title: "accepted (UTC)", text: (row) => moment(seconds("accepted", row)), by: (row) => seconds("accepted", row), number: true },
    { title: "ran", text: (row) => duration(seconds("ran", row)), by: (row) => seconds("ran", row), number: true },
    { title: "waited", text: (row) => duration(waited(row)), by: waited, number: true },
    { title: "calls", text: (row) => String(columns.attempts[row]), by: (row) => columns.attempts[row], number: true },
  ];

  const state = { words: "", fate: -1, membership: -1, model: -1, reason: -1, column: 1, down: false, page: 0 };
  let order = new Uint32Array(0);
  let haystack = null;

  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  // One lower-case text a job, made at the first search; a number sign keeps the parts from running together.
  const searched = () => {
    if (haystack === null) {
      const messages = texts.message.map((each) => each.toLowerCase());
      haystack = columns.name.map((name, row) =>
        `${name.toLowerCase()}\n${columns.key[row]}\n${columns.arn[row]}\n${messages[columns.message[row]]}`);
    }
    return haystack;
  };

  const select = () => {
    const tests = ["fate", "membership", "model", "reason"].filter((name) => state[name] >= 0)
      .map((name) => { const column = columns[name], wanted = state[name]; return (row) => column[row] === wanted; });
    const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) {
      const hay = searched(), whole = state.words.trim().toLowerCase();
      // A pasted ARN is found by its last part, the only one that is a job's own.
      const tail = whole.startsWith("arn:") ? whole.slice(whole.lastIndexOf("/") + 1) : null;
      tests.push(tail !== null ? (row) => hay[row].includes(tail) : (row) => words.every((word) => hay[row].includes(word)));
    }
    const rows = [];
    for (let row = 0; row < count; row += 1) if (tests.every((test) => test(row))) rows.push(row);
    order = Uint32Array.from(rows);
    sort();
  };

  const sort = () => {
    const { by } = shown[state.column];
    const values = new Array(count);
    for (const row of order) values[row] = by(row);
    const sign = state.down ? -1 : 1;
    // The table begins sorted by state, trouble first. What has no value stands last, whichever way is up; equal ones keep the ledger's order.
    order.sort((one, other) => {
      const a = values[one], b = values[other];
      if (a === b) return one - other;
      if (a === null) return 1;
      if (b === null) return -1;
      return (a < b ? -1 : 1) * sign;
    });
  };

  const details = (row) => {
    const line = element("tr", undefined, "details");
    const cell = element("td");
    cell.colSpan = shown.length;
    const list = element("dl");
    const add = (term, text) => { if (text) list.append(element("dt", term), element("dd", text)); };
    add("why", texts.message[columns.message[row]]);
    add("ARN", columns.arn[row] && arn(row));
    add("key", columns.key[row]);
    add("membership", texts.membership[columns.membership[row]]);
    for (const [term, name] of [["first intent", "intent"], ["accepted", "accepted"], ["seen to end", "finished"]]) {
      if (seconds(name, row) !== null) add(term, `${moment(seconds(name, row))} UTC`);
    }
    add("waited for", causes.filter((cause) => (seconds(cause, row) ?? 0) > 0)
      .map((cause) => `${cause} ${duration(seconds(cause, row))}`).join(", "));
    cell.append(list);
    line.append(cell);
    return line;
  };

  const rowOf = (row) => {
    const line = element("tr");
    shown.forEach((column, index) => {
      const cell = element(index ? "td" : "th", undefined, column.number ? "number" : "");
      if (index === 0) {
        cell.scope = "row";
        const button = element("button", column.text(row));
        button.type = "button";
        button.setAttribute("aria-expanded", "false");
        button.addEventListener("click", () => {
          const open = button.getAttribute("aria-expanded") === "true";
          button.setAttribute("aria-expanded", String(!open));
          if (open) line.nextSibling.remove(); else line.after(details(row));
        });
        cell.append(button);
      } else if (index === 1) {
        cell.append(element("span", column.text(row), `fate fate-${columns.fate[row]}`));
      } else {
        cell.textContent = column.text(row);
      }
      line.append(cell);
    });
    return line;
  };

  const show = () => {
    const pages = Math.max(Math.ceil(order.length / PAGE_ROWS), 1);
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const from = state.page * PAGE_ROWS, rows = order.subarray(from, from + PAGE_ROWS);
    get("body").replaceChildren(...Array.from(rows, rowOf));
    const all = count.toLocaleString("en"), some = order.length.toLocaleString("en");
    get("found").textContent = order.length === count ? `${all} jobs` : `${some} of ${all} jobs`;
    get("page").textContent = order.length
      ? `${(from + 1).toLocaleString("en")} to ${(from + rows.length).toLocaleString("en")} of ${some}` : "none";
    for (const [id, off] of [["first", state.page === 0], ["before", state.page === 0], ["after", state.page >= pages - 1], ["last", state.page >= pages - 1]]) {
      get(id).disabled = off;
    }
    get("pager").hidden = pages === 1;
    get("reason").hidden = state.reason < 0;
    get("reason").textContent = `Reason: ${reasonNames.get(state.reason) || "no code"} ✕`;
    [...get("head").children].forEach((cell, index) => {
      if (index === state.column) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
  };

  const refresh = () => { state.page = 0; select(); show(); };

  const head = () => shown.forEach((column, index) => {
    const cell = element("th", undefined, column.number ? "number" : "");
    cell.scope = "col";
    const button = element("button", column.title);
    button.type = "button";
    button.addEventListener("click", () => {
      state.down = state.column === index && !state.down;
      state.column = index;
      state.page = 0;
      sort();
      show();
    });
    cell.append(button);
    get("head").append(cell);
  });

  const options = (id, names, column) => {
    const counts = new Array(names.length).fill(0);
    for (const number of columns[column]) counts[number] += 1;
    names.forEach((name, number) => {
      if (!counts[number]) return;
      const option = element("option", `${name} (${counts[number].toLocaleString("en")})`);
      option.value = String(number);
      get(id).append(option);
    });
    get(id).addEventListener("change", (event) => {
      state[id] = event.target.value === "" ? -1 : Number(event.target.value);
      refresh();
    });
  };

  const turn = (id, page) => get(id).addEventListener("click", () => { state.page = page(); show(); });

  head();
  options("fate", fates, "fate");
  options("membership", texts.membership, "membership");
  options("model", texts.model, "model");
  turn("first", () => 0);
  turn("before", () => state.page - 1);
  turn("after", () => state.page + 1);
  turn("last", () => Infinity);
  let waiting = 0;
  get("search").addEventListener("input", (event) => {
    state.words = event.target.value;
    clearTimeout(waiting);
    waiting = setTimeout(refresh, count > 20000 ? 150 : 0);
  });
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  get("reason").addEventListener("click", () => { state.reason = -1; refresh(); });
  for (const button of document.querySelectorAll("button.show")) {
    if (button.dataset.reason !== undefined) reasonNames.set(Number(button.dataset.reason), button.dataset.words);
    button.addEventListener("click", () => {
      state.reason = button.dataset.reason === undefined ? -1 : Number(button.dataset.reason);
      if (button.dataset.fate) {
        state.fate = fates.indexOf(button.dataset.fate);
        get("fate").value = String(state.fate);
      }
      refresh();
      get("jobs").scrollIntoView();
      get("found").focus();
    });
  }
  select();
  show();
  get("filters").hidden = count === 0;
  get("table").hidden = count === 0;
  document.documentElement.dataset.ready = "true";
})();
