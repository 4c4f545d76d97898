// The table of jobs (search, filters, sorting, pages, details) and the charts. What is shown goes into text nodes only,
// never into markup. The filters are the address: `#state=failed&model=churn`, so that a link shows the same.
"use strict";
const get = (id) => document.getElementById(id);
const element = (tag, text, className) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};
const here = (at) => at.toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });

const state = { column: 1, down: false, page: 0 }; // outlives a live page's updates

const start = () => {
  const PAGE_ROWS = 50;
  const data = JSON.parse(get("data").textContent);
  const { columns, texts, fates, causes, base } = data;
  const BAD = ["rejected", "failed", "cancelled"].map((name) => fates.indexOf(name));
  const count = columns.name.length;
  const seconds = (name, row) => columns[name][row];
  // Keys and ARNs are the last in the page, so that the table does not wait for them.
  let kept = null;
  const ids = () => (kept ??= document.readyState === "loading" ? null : JSON.parse(get("ids").textContent));
  const id = (name, row) => ids()?.[name][row] ?? "";
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
  const arn = (row) => id("arn", row) && texts.arn_head[id("arn_head", row)] + id("arn", row);
  const shown = [
    { title: "name", text: (row) => columns.name[row], by: (row) => columns.name[row] },
    { title: "state", text: (row) => fates[columns.fate[row]], by: (row) => columns.fate[row] },
    { title: "trained model", text: (row) => texts.model[columns.model[row]], by: (row) => texts.model[columns.model[row]] },
    { title: "membership", text: (row) => { const name = texts.membership[columns.membership[row]]; return data.aliases[name] ?? name.slice(0, 8); }, by: (row) => texts.membership[columns.membership[row]] },
    { title: "accepted (UTC)", text: (row) => moment(seconds("accepted", row)), by: (row) => seconds("accepted", row), number: true },
    { title: "ran", text: (row) => duration(seconds("ran", row)), by: (row) => seconds("ran", row), number: true },
    { title: "waited", text: (row) => duration(waited(row)), by: waited, number: true },
    { title: "calls", text: (row) => String(columns.attempts[row]), by: (row) => columns.attempts[row], number: true },
  ];

  const FILTERS = ["q", "state", "membership", "model", "reason", "from", "to"];
  const filters = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const given = (name) => filters.get(name) ?? "";
  const span = () => [given("from"), given("to")].map((text) => (text ? Date.parse(text) / 1000 - base : null));
  let order = new Uint32Array(0);
  let haystack = null;

  // One lower-case text a job, made at the first search; a number sign keeps the parts from running together.
  const searched = () => {
    if (haystack === null) {
      const messages = texts.message.map((each) => each.toLowerCase());
      haystack = columns.name.map((name, row) =>
        `${name.toLowerCase()}\n${id("key", row)}\n${id("arn", row)}\n${messages[columns.message[row]]}`);
    }
    return haystack;
  };

  const began = (row) => seconds("accepted", row) ?? seconds("intent", row);
  const finished = (row) => (seconds("ran", row) === null ? null : seconds("accepted", row) + seconds("ran", row));
  const ended = (row) => finished(row) ?? (seconds("accepted", row) === null ? began(row) : data.end);
  const select = () => {
    const tests = [];
    for (const name of ["membership", "model"]) {
      const wanted = texts[name].indexOf(given(name)), column = columns[name];
      if (given(name)) tests.push((row) => column[row] === wanted);
    }
    if (given("reason")) tests.push((row) => columns.reason[row] === Number(given("reason")));
    const states = given("state") === "bad" ? BAD : [fates.indexOf(given("state"))];
    if (given("state")) tests.push((row) => states.includes(columns.fate[row]));
    const [from, to] = span();
    if (from !== null) tests.push((row) => began(row) !== null && ended(row) >= from && began(row) <= to);
    const words = given("q").toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) {
      const hay = searched(), whole = given("q").trim().toLowerCase();
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
    add("ARN", arn(row));
    add("key", id("key", row));
    add("membership", texts.membership[columns.membership[row]]);
    add("instance type", texts.instance[columns.instance[row]]);
    for (const [term, at] of [["first intent", seconds("intent", row)], ["accepted", seconds("accepted", row)], ["seen to end", finished(row)]]) {
      if (at !== null) add(term, `${moment(at)} UTC, ${here(new Date((base + at) * 1000))}`);
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
    get("first").disabled = get("before").disabled = state.page === 0;
    get("after").disabled = get("last").disabled = state.page >= pages - 1;
    get("pager").hidden = pages === 1;
    get("reason").hidden = !given("reason");
    get("reason").textContent = `Reason: ${reasonNames.get(given("reason")) || "no code"} ✕`;
    get("time").hidden = !given("from");
    get("time").textContent = `Time: ${given("from").slice(5, 16).replace("T", " ")} to ${given("to").slice(5, 16).replace("T", " ")} UTC ✕`;
    [...get("head").children].forEach((cell, index) => {
      if (index === state.column) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
  };

  const refresh = () => {
    for (const name of ["state", "membership", "model"]) get(name).value = given(name);
    if (get("search").value !== given("q")) get("search").value = given("q");
    select();
    show();
    gantt?.data("jobs", bars()).runAsync();
  };
  const filter = (changes) => {
    for (const [name, value] of Object.entries(changes)) if (value) filters.set(name, value); else filters.delete(name);
    history.replaceState(null, "", filters.size ? `#${filters}` : location.pathname + location.search);
    state.page = 0;
    refresh();
  };
  let timer = 0;
  const later = (action, delay) => { clearTimeout(timer); timer = setTimeout(action, delay); };
  // A link sets all filters but the time; then the table is in view.
  const follow = (link) => {
    filter({ q: "", state: "", membership: "", model: "", reason: "", ...Object.fromEntries(new URLSearchParams(link)) });
    get("jobs").scrollIntoView();
  };
  onhashchange = () => {
    if (!location.hash.includes("=")) return;
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const name of FILTERS) if (wanted.get(name)) filters.set(name, wanted.get(name)); else filters.delete(name);
    refresh();
  };

  shown.forEach((column, index) => {
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
    const add = (value, label, jobs) => {
      if (!jobs) return;
      const option = element("option", `${label} (${jobs.toLocaleString("en")})`);
      option.value = value;
      get(id).append(option);
    };
    names.forEach((name, number) => add(name, data.aliases[name] ?? name, counts[number]));
    if (id === "state") add("bad", "failed, rejected or cancelled", BAD.reduce((sum, number) => sum + counts[number], 0));
    get(id).addEventListener("change", (event) => filter({ [id]: event.target.value }));
  };

  // The charts. Each is drawn when it comes near; until then, and on paper without a script, its picture stands there.
  const charts = JSON.parse(get("charts").textContent), tip = get("tip"), TIMES = ["at", "from", "about"];
  const tooltip = (_, event, item, value) => {
    tip.hidden = !value || typeof value !== "object";
    if (tip.hidden) return;
    tip.replaceChildren(...Object.entries(value).flatMap(([term, text]) => {
      const at = TIMES.includes(term) ? new Date(Number(text)) : null;
      return [element("dt", term), element("dd", at ? `${at.toISOString().slice(5, 19).replace("T", " ")} UTC, ${here(at)}` : text)];
    }));
    tip.style.left = `${Math.max(Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8), 0)}px`;
    tip.style.top = `${Math.max(Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8), 0)}px`;
  };

  const MOST_BARS = 1500;
  let gantt = null;
  const bars = () => {
    const [from, to] = span();
    const rows = [];
    for (let row = 0; row < count; row += 1) {
      if (seconds("accepted", row) !== null && (from === null || (ended(row) >= from && began(row) <= to))) rows.push(row);
    }
    const every = Math.ceil(rows.length / MOST_BARS) || 1;
    const drawn = rows.filter((_, index) => index % every === 0).sort((one, other) => began(one) - began(other));
    const free = [];
    get("drawn").textContent = every > 1 ? `${drawn.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} jobs are drawn, evenly chosen.` : "";
    return drawn.map((row) => {
      const bar = { from: Math.max(began(row), from ?? -Infinity), to: Math.min(ended(row), to ?? Infinity) };
      let place = free.findIndex((until) => until <= bar.from);
      if (place < 0) place = free.length;
      free[place] = bar.to;
      return {
        from: (base + bar.from) * 1000, to: (base + bar.to) * 1000, row: place, row2: place + 1, name: columns.name[row],
        series: fates[columns.fate[row]], ran: duration(ended(row) - began(row)), link: `q=${id("key", row)}`,
      };
    });
  };

  const draw = async (box) => {
    const name = box.dataset.chart;
    const spec = { ...charts.specs[name], width: "container" };
    if (name === "gantt") spec.datasets = { jobs: bars() };
    const options = { mode: "vega-lite", ast: true, actions: false, defaultStyle: false, renderer: "svg", config: charts.config, tooltip };
    const { view } = await vegaEmbed(box, spec, options);
    view.addEventListener("click", (_, item) => { if (item?.datum?.link) follow(item.datum.link); });
    if ([spec, ...(spec.layer ?? [])].some((each) => each.params?.some((param) => param.name === "brush"))) {
      view.addSignalListener("brush", (_, value) => {
        const [from, to] = (value.from ?? value.at ?? []).map((at) => new Date(Number(at)).toISOString().slice(0, 19) + "Z");
        later(() => filter({ from, to }), 150);
      });
    }
    if (name === "gantt") gantt = view;
    box.dataset.drawn = "true";
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); requestIdleCallback(() => draw(entry.target)); }
  }, { rootMargin: "400px" });

  options("state", fates, "fate");
  options("membership", texts.membership, "membership");
  options("model", texts.model, "model");
  for (const [button, step] of [["first", -Infinity], ["before", -1], ["after", 1], ["last", Infinity]]) {
    get(button).addEventListener("click", () => { state.page += step; show(); });
  }
  get("search").addEventListener("input", (event) => later(() => filter({ q: event.target.value }), count > 20000 ? 150 : 0));
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  get("reason").addEventListener("click", () => filter({ reason: "" }));
  get("time").addEventListener("click", () => filter({ from: "", to: "" }));
  for (const link of document.querySelectorAll("a[data-words]")) {
    reasonNames.set(new URLSearchParams(link.hash.slice(1)).get("reason"), link.dataset.words);
  }
  for (const link of document.querySelectorAll("a.show")) {
    link.addEventListener("click", (event) => { event.preventDefault(); follow(link.hash.slice(1)); });
  }
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      const code = button.previousElementSibling;
      getSelection().selectAllChildren(code); // where the clipboard is refused, a key copies what is marked
      await navigator.clipboard.writeText(code.textContent).then(() => { button.textContent = "Copied"; }, () => {});
    });
  }
  for (const time of document.querySelectorAll("time")) time.append(element("small", ` ${here(new Date(time.dateTime))}`));
  refresh();
  get("filters").hidden = count === 0;
  get("table").hidden = count === 0;
  document.documentElement.dataset.ready = "true";
  const whole = () => {
    haystack = null;
    if (given("q")) refresh();
    for (const box of document.querySelectorAll("[data-chart]")) near.observe(box);
  };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", whole); else whole();
};
start();
