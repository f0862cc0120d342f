// What the browser does by itself: times in the viewer's zone, ages that count on, moving between pages, search,
// theme, and watching over the server: it is lost when its beat (at least one a second) has been missing for 2.5 s.
(() => {
  "use strict";
  const LOST_MS = 2500;
  const LOST_POLLING_MS = 10000;
  const WAKE_POLLING_MS = 30000;
  const WAKE_MS = 1500;
  const POLL_AFTER_MS = 4000;
  const TICK_MS = 500;
  const root = document.documentElement;
  const state = { beatAt: performance.now(), heardUs: null, skewMs: 0, lost: false, woke: 0, answersSince: 0, polling: false, index: [] };
  const room = (window.dash_clientside = window.dash_clientside || {});
  room.room = room.room || {};
  const set = (id, props) => window.dash_clientside.set_props && window.dash_clientside.set_props(id, props);
  const serverNow = () => Date.now() + state.skewMs;
  const byId = (id) => document.getElementById(id);

  // Times

  const two = (n) => String(n).padStart(2, "0");
  const clockTime = (d) => `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  const day = (d) => `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  const utc = (d) => d.toISOString().replace("T", " ").slice(0, 19) + " UTC";
  const age = (seconds) => {
    const s = Math.max(0, Math.floor(seconds));
    if (s < 120) return `${s} s ago`;
    if (s < 7200) return `${Math.floor(s / 60)} min ago`;
    if (s < 172800) return `${Math.floor(s / 3600)} h ago`;
    return `${Math.floor(s / 86400)} d ago`;
  };
  const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  const tellTimes = () => {
    const now = serverNow();
    for (const e of document.querySelectorAll("time[data-age]")) write(e, age(now / 1000 - Number(e.dataset.age)));
    for (const e of document.querySelectorAll("time[data-time]")) write(e, clockTime(new Date(Number(e.dataset.time) * 1000)));
    for (const e of document.querySelectorAll("time[data-date]")) {
      const d = new Date(Number(e.dataset.date) * 1000);
      write(e, `${day(d)} ${clockTime(d)}`);
    }
    const clock = byId("clock");
    if (clock) {
      const d = new Date(now);
      write(clock, clockTime(d));
      clock.title = `${day(d)} ${clockTime(d)} in your zone (${Intl.DateTimeFormat().resolvedOptions().timeZone}) · ${utc(d)}`;
    }
    const beat = document.querySelector(".beat-age");
    if (beat && state.heardUs) write(beat, age((now - state.heardUs / 1000) / 1000));
  };

  // Watching over the server

  room.room.beat = (beat) => {
    if (!beat) return window.dash_clientside.no_update;
    const first = state.lost;
    state.beatAt = performance.now();
    state.heardUs = beat.heard_us;
    state.skewMs = beat.now_us / 1000 - Date.now();
    if (state.polling && beat.via === "socket") poll(false);
    if (first) found();
    requestAnimationFrame(tellTimes);
    return window.dash_clientside.no_update;
  };

  const poll = (on) => {
    state.polling = on;
    root.dataset.polling = on ? "1" : "";
    set("poll", { disabled: !on });
  };

  const lose = (why) => {
    state.lost = true;
    root.dataset.lost = "1";
    const text = `${why} · last update ${age((performance.now() - state.beatAt) / 1000)}. What you see is old; it goes on by itself.`;
    if (byId("lost")) set("lost", { children: text });
  };

  const found = () => {
    state.lost = false;
    state.answersSince = 0;
    delete root.dataset.lost;
    set("lost", { children: "" });
    set("again", { data: Date.now() }); // the curves have a gap: read them anew
  };

  const silent = () => performance.now() - state.beatAt > (state.polling ? LOST_POLLING_MS : LOST_MS);
  const wake = (now) => { state.woke = now; set("wake", { data: Date.now() }); };

  const watch = async () => {
    const now = performance.now();
    if (state.polling && now - state.woke > WAKE_POLLING_MS) wake(now);
    if (!silent() || (document.visibilityState === "hidden" && !state.lost)) return;
    const said = await reach();
    if (!silent()) return;
    if (said === "out") return location.reload(); // the server answers with the page to sign in on
    lose("No connection to the control room's server");
    if (said !== "there") { state.answersSince = 0; return; }
    state.answersSince = state.answersSince || now;
    if (state.polling) return;
    if (now - state.woke > WAKE_MS) wake(now);
    if (now - state.answersSince > POLL_AFTER_MS || typeof SharedWorker === "undefined") poll(true);
  };

  const reach = async () => {
    try {
      const answer = await fetch("/session", { cache: "no-store", signal: AbortSignal.timeout(1500) });
      return answer.ok ? "there" : answer.status === 401 ? "out" : "away";
    } catch {
      return "away";
    }
  };

  // Moving between pages: the address changes, Dash hears of it, nothing is loaded anew.

  const go = (href) => {
    const to = new URL(href, location.href);
    const samePage = to.pathname === location.pathname;
    history.pushState({}, "", to);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
    if (!samePage) {
      window.scrollTo(0, 0);
      const page = byId("page");
      if (page) page.focus({ preventScroll: true });
    }
  };
  room.room.go = go;

  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const from = event.target.closest("[data-nav],[data-copy],#theme-switch,.skip");
    if (!from) return;
    if (from.className === "skip") {
      event.preventDefault(); // the address stays as it is
      return byId("page").focus();
    }
    if (from.id === "theme-switch") return turn(root.dataset.theme === "dark" ? "light" : "dark");
    if (from.dataset.copy) {
      navigator.clipboard.writeText(from.dataset.copy).then(() => {
        write(from, "Copied");
        setTimeout(() => write(from, "Copy"), 1500);
      });
      return;
    }
    event.preventDefault();
    go(from.tagName === "A" ? from.href : from.dataset.nav);
    if (from.closest("#found")) closeSearch();
  });

  // Theme

  const turn = (theme) => {
    root.dataset.theme = theme;
    try { localStorage.setItem("im-theme", theme); } catch { /* private window: for this page only */ }
    showTheme();
  };
  const showTheme = () => {
    const dark = root.dataset.theme === "dark";
    const button = byId("theme-switch");
    if (button) button.setAttribute("aria-pressed", String(dark));
    set("theme", { data: root.dataset.theme });
  };

  // Search: a combobox over the index of machines and sensors

  room.room.index = (index) => { state.index = index || []; return window.dash_clientside.no_update; };
  let chosen = -1;

  const closeSearch = () => {
    const input = byId("search"), list = byId("found");
    if (!input || !list) return;
    list.replaceChildren();
    list.classList.remove("open");
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    chosen = -1;
  };

  const search = () => {
    const input = byId("search"), list = byId("found");
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return closeSearch();
    const hits = state.index.filter(([name]) => words.every((w) => name.includes(w))).slice(0, 8);
    chosen = hits.length ? 0 : -1;
    list.replaceChildren(...hits.map(([name, kind, href], i) => {
      const option = document.createElement("a");
      option.href = href;
      option.id = `found-${i}`;
      option.tabIndex = -1;
      option.setAttribute("role", "option");
      option.dataset.nav = "1";
      option.append(name, Object.assign(document.createElement("span"), { className: "muted", textContent: kind }));
      return option;
    }));
    if (!hits.length) list.append(Object.assign(document.createElement("p"), { className: "muted", textContent: "Nothing is called so." }));
    list.classList.add("open");
    input.setAttribute("aria-expanded", "true");
    mark();
  };

  const mark = () => {
    const input = byId("search");
    byId("found").querySelectorAll("a").forEach((option, i) => option.setAttribute("aria-selected", String(i === chosen)));
    if (chosen >= 0) input.setAttribute("aria-activedescendant", `found-${chosen}`);
    else input.removeAttribute("aria-activedescendant");
  };

  const dressSearch = () => {
    const input = byId("search"), list = byId("found");
    if (!input || input.dataset.dressed) return;
    input.dataset.dressed = "1";
    for (const [name, value] of Object.entries({ role: "combobox", "aria-expanded": "false", "aria-controls": "found", "aria-autocomplete": "list", "aria-label": "Find a machine or a sensor" })) input.setAttribute(name, value);
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "found");
    input.addEventListener("input", search);
    input.addEventListener("focus", search);
    input.addEventListener("blur", () => setTimeout(closeSearch, 200));
    input.addEventListener("keydown", (event) => {
      const options = list.querySelectorAll("a");
      if (event.key === "Escape") { input.value = ""; closeSearch(); input.blur(); }
      if (event.key === "Enter" && options[chosen]) {
        event.preventDefault();
        const href = options[chosen].href;
        closeSearch();
        input.blur();
        go(href);
      }
      if (options.length && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
        event.preventDefault();
        chosen = (chosen + (event.key === "ArrowDown" ? 1 : options.length - 1)) % options.length;
        mark();
      }
    });
  };

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input,textarea,select,[contenteditable]")) return;
    const input = byId("search");
    if (input) { event.preventDefault(); input.focus(); input.select(); }
  });

  // The title follows the page

  const tellTitle = () => {
    const title = document.querySelector("#page h1");
    const wanted = title ? `${title.textContent} · Control room` : "Control room";
    if (document.title !== wanted) document.title = wanted;
  };

  let watching = false;
  setInterval(async () => {
    dressSearch();
    tellTimes();
    tellTitle();
    if (watching || !byId("lost")) return;
    watching = true;
    try { await watch(); } finally { watching = false; }
  }, TICK_MS);

  // Dash makes anew what changes as a whole: who had the focus there gets it back, and times are told before they are seen.
  let focused = null;
  document.addEventListener("focusin", (event) => { focused = event.target; });
  document.addEventListener("pointerdown", () => { focused = null; });
  const watchRoom = () => new MutationObserver(() => {
    tellTimes();
    if (!focused || focused.isConnected || !focused.id) return;
    if (document.activeElement && document.activeElement !== document.body) return;
    const again = byId(focused.id);
    if (again) again.focus({ preventScroll: true });
  }).observe(byId("room"), { childList: true, subtree: true });

  const ready = setInterval(() => {
    if (!byId("theme-switch") || !window.dash_clientside.set_props) return;
    clearInterval(ready);
    if (typeof SharedWorker === "undefined") poll(true);
    showTheme();
    dressSearch();
    tellTimes();
    watchRoom();
  }, 50);
})();
