// Keys, dialogs, copied links and the chart's crosshair. Every page can be read, filtered and paged without it.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const typing = (target) => target.closest("input, textarea, select, [contenteditable]");
  const off = () => localStorage.getItem("sluice-keys") === "off";

  // Keys: "/" search, g and a letter go somewhere, j and k move in a table, Enter opens, [ and ] turn pages.
  const places = { o: "/", a: "/allocations", p: "/policies", e: "/events", c: "/commands", s: "/system" };
  let going = false;
  const rows = () => all("table[data-rows] tbody tr");
  const move = (by) => {
    const list = rows();
    if (!list.length) return;
    const now = list.findIndex((row) => row.classList.contains("at"));
    const next = list[Math.max(0, Math.min(list.length - 1, now + by))];
    list.forEach((row) => row.classList.remove("at"));
    next.classList.add("at");
    $("a", next)?.focus();
    next.scrollIntoView({ block: "nearest" });
  };
  const actions = {
    "/": () => $(".search input")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    f: () => $("[data-filter]")?.focus(),
    "[": () => $("a[rel=prev]")?.click(),
    "]": () => $("a[rel=next]")?.click(),
    ".": () => $('[data-key="."]')?.click(),
    y: () => navigator.clipboard?.writeText(location.href),
    t: () => $(".theme button")?.click(),
    "?": () => $("#keys")?.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") all("details.person[open], details.menu[open]").forEach((menu) => (menu.open = false));
    if (event.ctrlKey || event.metaKey || event.altKey || off() || typing(event.target) || $("dialog[open]")) return;
    if (going) {
      going = false;
      const to = places[event.key];
      if (to && $(`.side a[href="${to}"]`)) location.assign(to);
      return;
    }
    if (event.key === "g") {
      going = true;
      setTimeout(() => (going = false), 1500);
      return;
    }
    const act = actions[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  document.addEventListener("click", (event) => {
    const target = event.target;
    // A menu closes when something else is chosen.
    all("details.person[open], details.menu[open]").forEach((menu) => {
      if (!menu.contains(target)) menu.open = false;
    });
    const closes = target.closest("[data-close]");
    if (closes && closes.closest("dialog")) {
      event.preventDefault();
      closes.closest("dialog").close();
    }
  });

  // A link that opens a dialog leads to a page of its own without script; with it, the form of that page comes here.
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[data-dialog]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    let answer;
    try {
      answer = await fetch(link.href, { headers: { "HX-Request": "true" } });
    } catch {
      answer = null;
    }
    const text = answer && answer.ok && !answer.redirected ? await answer.text() : "";
    if (!text) return location.assign(link.href);
    const dialog = document.createElement("dialog");
    dialog.className = "dialog";
    dialog.innerHTML = text;
    dialog.setAttribute("aria-labelledby", "dialog-title");
    document.body.append(dialog);
    dialog.addEventListener("close", () => {
      dialog.remove();
      link.focus();
    });
    all("form[data-reason]", dialog).forEach(reasoned);
    window.htmx?.process(dialog);
    dialog.showModal();
  });

  // A button that needs a reason can be used when there is one.
  const reasoned = (form) => {
    $("button[type=submit], button:not([type], [data-close])", form).disabled = !$("[name=reason]", form).value.trim();
  };
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-reason]");
    if (form) reasoned(form);
  });

  // A live page counts what is new and moves nothing that is read; it says so when it hears nothing any more.
  const live = $("[data-live]");
  if (live) {
    const says = $("[data-live-says]", live);
    const show = $("[data-live-show]", live);
    let count = 0;
    const stream = new EventSource(live.dataset.live);
    stream.onmessage = () => {
      count++;
      says.textContent = "";
      show.textContent = `${count} new`;
      show.href = location.href;
      show.hidden = false;
    };
    stream.onopen = () => count || (says.textContent = "Waiting for new events.");
    stream.onerror = () => (says.textContent = "Not live, trying again.");
  }

  // The chart: a crosshair goes from evaluation to evaluation; the numbers stand in the table below it.
  const chart = (figure) => {
    const svg = $("svg.chart", figure);
    const steps = all("[data-x]", figure.parentElement);
    const tip = $(".tip", figure);
    const hair = $(".crosshair", figure);
    if (!svg || !steps.length || !tip || !hair) return;
    let at = -1;
    const show = (index) => {
      at = Math.max(0, Math.min(steps.length - 1, index));
      const step = steps[at];
      const x = Number(step.dataset.x);
      hair.setAttribute("x1", x);
      hair.setAttribute("x2", x);
      hair.removeAttribute("hidden");
      tip.hidden = false;
      tip.replaceChildren(...all("td, th", step).filter((cell) => cell.dataset.tip).map((cell) => {
        const line = document.createElement("span");
        line.className = cell.dataset.tip;
        line.textContent = cell.textContent.trim();
        return line;
      }));
      const box = svg.viewBox.baseVal;
      const share = (x - box.x) / box.width;
      tip.classList.toggle("left", share > 0.55);
      const rules = tip.attributeStyleMap;
      if (rules) rules.set("left", CSS.percent(share * 100));
      else tip.style.left = `${share * 100}%`;
    };
    const hide = () => {
      at = -1;
      tip.hidden = true;
      hair.setAttribute("hidden", "");
    };
    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const x = svg.viewBox.baseVal.x + ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      let best = 0;
      steps.forEach((step, index) => {
        if (Math.abs(step.dataset.x - x) < Math.abs(steps[best].dataset.x - x)) best = index;
      });
      return best;
    };
    svg.addEventListener("pointermove", (event) => show(nearest(event)));
    svg.addEventListener("pointerleave", hide);
    figure.addEventListener("keydown", (event) => {
      if (event.key === "ArrowRight") show(at + 1);
      else if (event.key === "ArrowLeft") show(at < 0 ? steps.length - 1 : at - 1);
      else if (event.key === "Enter" && at >= 0) $("a", steps[at])?.click();
      else if (event.key === "Escape") hide();
      else return;
      event.preventDefault();
    });
  };
  all("figure[data-chart]").forEach(chart);
})();
