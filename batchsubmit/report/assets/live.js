// A page that is served follows its server: it fetches itself again when an event says so, and takes over what is new.
// While someone types, points or marks, it waits.
"use strict";
{
  const shown = document.documentElement.dataset.live;
  const isBusy = () => document.querySelector("#filters :focus, .chart:hover, .copied:hover") !== null;
  const update = async () => {
    while (isBusy()) await new Promise((go) => setTimeout(go, 500));
    const answer = await fetch(`${location.pathname}?update`);
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["top", "main", "data", "charts", "ids"]) {
      const now = document.getElementById(id), next = fresh.getElementById(id);
      if (now && next) now.replaceWith(next);
    }
    document.title = fresh.title;
    if (typeof start === "function") start();
  };
  if (shown) addEventListener("load", () => {
    let updating = Promise.resolve();
    new EventSource(`events?shown=${encodeURIComponent(shown)}`).onmessage = () => { updating = updating.then(update); };
  });
}
