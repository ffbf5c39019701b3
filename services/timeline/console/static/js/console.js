// What the server cannot do alone: keys, where the answer goes, a thread that does not jump, and when to fetch what is new.
// No dependency beside htmx, no inline code.
const $ = (selector, root = document) => root.querySelector(selector);
const typing = (el) => el.matches?.("input:not([type=radio]), textarea, select, [contenteditable=true]");
const root = document.documentElement;
const cookie = (name, value) => { document.cookie = `${name}=${value};path=/;max-age=31536000;samesite=strict`; };

// --- the server renders times in the reader's zone and the first paint in the reader's theme: both are cookies
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.includes(`tz=${encodeURIComponent(zone)}`)) cookie("tz", encodeURIComponent(zone));
const themes = { "": "dark", dark: "light", light: "" };
function nextTheme() {
  const next = themes[root.dataset.theme ?? ""];
  if (next) root.dataset.theme = next; else delete root.dataset.theme;
  cookie("theme", next);
}

let follow = () => true;
// --- thread: follow the end only while the reader is at the end; otherwise count, and let them come
const thread = $(".thread");
if (thread) {
  const pill = $("[data-do=newest]");
  let unseen = 0, following = true;
  follow = () => following;
  const atEnd = () => thread.scrollHeight - thread.scrollTop - thread.clientHeight < 80;
  const toEnd = () => { thread.scrollTop = thread.scrollHeight; unseen = 0; pill.hidden = true; };
  thread.addEventListener("scroll", () => { following = atEnd(); if (following) { unseen = 0; pill.hidden = true; } }, { passive: true });
  new MutationObserver((changes) => {
    const added = changes.flatMap((c) => [...c.addedNodes]).flatMap((n) => n.matches?.("article.m, aside.note") ? [n] : [...(n.querySelectorAll?.("article.m, aside.note") ?? [])]);
    if (!added.length) return;
    if (following || added.some((n) => n.classList.contains("sending"))) return toEnd();
    unseen += added.length;
    pill.hidden = false;
    $("span", pill).textContent = `${unseen} ${pill.dataset.word ??= $("span", pill).textContent}`;
  }).observe(thread, { childList: true, subtree: true });
  document.addEventListener("click", (e) => { if (e.target.closest("[data-do=newest]")) toEnd(); });
  if (location.hash) $(location.hash)?.scrollIntoView(); else if (!location.search.includes("before=")) toEnd();
}

// --- what is new is fetched and morphed in place: the open thread at once, the list only while nobody points at it
const swap = (url, target) => htmx.ajax("GET", url, { target, swap: "outerMorph" });
const once = (run, wait) => { let timer; return () => { clearTimeout(timer); timer = setTimeout(run, wait); }; };
const legs = () => $("#legs");
const refreshThread = once(() => {
  const id = legs()?.dataset.conversation;
  if (!id || location.search.includes("before=")) return;
  swap(`/c/${id}/thread${location.search}`, "#legs").then(() => {
    const form = $("#composer"), newest = [...document.querySelectorAll("#legs article.m:not(.us)")].pop();
    if (form && newest && follow()) form.elements.saw.value = newest.id.slice(2);   // an answer names what its writer has seen
  });
  swap(`/c/${id}/bar${location.search}`, "#bar");
  const side = $("#side");
  if (side && !side.contains(document.activeElement) && !$("details[open]", side)) swap(`/c/${id}/side${location.search}`, "#side");
}, 120);
let pointing = false, leftAt = 0, owed = 0;
const list = $(".list");
list?.addEventListener("pointerenter", () => { pointing = true; });
list?.addEventListener("pointerleave", () => { pointing = false; leftAt = Date.now(); });
const refreshList = once(() => {
  const rows = $("#rows");
  if (!rows) return;
  const busy = pointing || rows.contains(document.activeElement) || Date.now() - leftAt < 2000;
  const shown = busy ? `&keep=${[...rows.querySelectorAll(".conv")].map((r) => r.dataset.id).join(",")}` : "";
  swap(`/inbox/rows?view=${rows.dataset.view}&current=${rows.dataset.current}${shown}`, "#rows");
  swap(`/inbox/views?view=${rows.dataset.view}`, "#views");
  clearTimeout(owed);
  if (busy) owed = setTimeout(refreshList, 2200);   // then in the new order, once nobody is about to click
}, 300);
document.addEventListener("thread", refreshThread);
document.addEventListener("list", refreshList);
document.addEventListener("reload", () => location.reload());

// --- the line: said after two missed heartbeats or a broken connection, taken back when it is there again
const live = $("#live");
if (live) {
  let last = Date.now(), off = false;
  const words = $("span", live);
  const show = (now) => {
    if (off === now) return;
    off = now; live.classList.toggle("off", off);
    words.textContent = off ? live.dataset.off.replace("{at}", new Date(last).toTimeString().slice(0, 5)) : live.dataset.on;
    if (!off) { refreshThread(); refreshList(); }
  };
  const alive = () => { last = Date.now(); show(false); };
  for (const name of ["htmx:sse:after:connection", "htmx:sse:before:message", "beat", "thread", "list"]) document.addEventListener(name, alive);
  document.addEventListener("htmx:sse:error", () => show(true));
  setInterval(() => { if (Date.now() - last > 35000) show(true); }, 5000);
}

// --- composer: one draft per leg, the whole box says where the words will appear, and in public the first press only asks
const composer = $("#composer");
if (composer) {
  const text = $("textarea", composer), send = $("[type=submit]", composer), box = $("#trouble-box");
  const icon = { public: "globe", private: "lock", note: "sticky-note" };
  const draftKey = (leg) => `draft:${composer.dataset.conversation}:${leg}`;
  const fresh = () => { composer.elements.key.value = crypto.randomUUID(); };
  let leg = $("input[name=leg]:checked", composer), armed = composer.elements.sure.value === "1";
  const disarm = () => { armed = false; composer.elements.sure.value = ""; };
  const grow = () => { text.rows = Math.min(8, Math.max(1, text.value.split("\n").length + Math.floor(text.value.length / 90))); };
  const show = () => {
    disarm();
    const sees = leg.dataset.sees;
    composer.classList.toggle("public", sees === "public");
    composer.classList.toggle("note", sees === "note");
    send.className = `btn ${sees === "public" ? "public" : "primary"}`;
    $(".to", composer).textContent = leg.dataset.where;
    $("#hint").textContent = leg.dataset.hint;
    $(".do", composer).textContent = leg.dataset.send;
    text.setAttribute("aria-label", leg.dataset.where);
    for (const use of composer.querySelectorAll(".sees use")) use.setAttribute("href", `/static/img/icons.svg#${icon[sees]}`);
    grow();
  };
  const load = () => { text.value = sessionStorage.getItem(draftKey(leg.value)) ?? ""; };
  const save = () => { text.value ? sessionStorage.setItem(draftKey(leg.value), text.value) : sessionStorage.removeItem(draftKey(leg.value)); };
  const calm = () => { box.replaceChildren(); text.removeAttribute("aria-invalid"); };
  const to = (radio) => { save(); leg = radio; radio.checked = true; load(); calm(); show(); };
  if (!text.value) load();
  composer.addEventListener("change", (e) => { if (e.target.name === "leg") to(e.target); });
  text.addEventListener("input", () => { save(); grow(); if (armed) show(); if (text.getAttribute("aria-invalid")) calm(); });
  text.addEventListener("keydown", (e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) { e.preventDefault(); composer.requestSubmit(); } });

  const bubble = (words, key) => {
    const shown = document.createElement("article");
    shown.className = "m us sending"; shown.id = `sending-${key}`;
    const b = document.createElement("div"), p = document.createElement("p");
    b.className = "b"; p.textContent = words; b.append(p); shown.append(b);
    const places = legs().querySelectorAll(".leg");
    (places[places.length - 1] ?? legs()).append(shown);
    return shown;
  };
  composer.addEventListener("submit", async (e) => {
    e.preventDefault();
    const words = text.value.trim();
    if (!words || send.getAttribute("aria-disabled") === "true") return;
    if (leg.dataset.sees === "public" && !armed) {
      armed = true; composer.elements.sure.value = "1"; $(".do", composer).textContent = leg.dataset.again;
      return;
    }
    const body = new URLSearchParams(new FormData(composer));
    send.setAttribute("aria-disabled", "true");
    const shown = leg.dataset.sees === "note" ? null : bubble(words, composer.elements.key.value);
    let answer;
    try {
      answer = await fetch(composer.action, { method: "POST", body, headers: { "x-part": "1" } });
    } catch { answer = null; }
    send.removeAttribute("aria-disabled");
    if (answer?.ok) {
      const entry = answer.headers.get("x-entry");
      if (shown && entry) shown.id = `e-${entry}`;   // the server's own comes under this id and takes its place
      text.value = ""; save(); calm(); fresh(); show(); refreshThread();
      return;
    }
    shown?.remove();
    box.innerHTML = answer ? await answer.text() : "";
    if (!answer) { const p = document.createElement("p"); p.className = "refuse"; p.setAttribute("role", "alert"); p.textContent = live?.dataset.off.replace("{at}", new Date().toTimeString().slice(0, 5)) ?? ""; box.append(p); }
    text.setAttribute("aria-invalid", "true"); text.focus(); disarm(); $(".do", composer).textContent = leg.dataset.send;
  });
  document.addEventListener("click", (e) => {
    const act = e.target.closest("#trouble-box [data-do]");
    if (!act) return;
    const words = text.value;
    if (act.dataset.do === "to-private") {
      const other = [...composer.querySelectorAll("input[name=leg]")].find((r) => r.dataset.sees === "private" && !r.disabled);
      if (other) { text.value = ""; save(); to(other); text.value = words; save(); grow(); }
    } else if (act.dataset.do === "cut") {
      text.value = act.dataset.found.split("\n").reduce((all, one) => all.replace(one, ""), words).replace(/ {2,}/g, " "); save(); calm();
    } else if (act.dataset.do === "anyway") {
      composer.elements.version.value = act.dataset.version; fresh(); calm(); composer.requestSubmit();
    } else if (act.dataset.do === "throw") { text.value = ""; save(); calm(); fresh(); }
    text.focus();
  });
  show();
  if (composer.elements.sure.value === "1") armed = true;
}

// --- keys: single letters only outside fields, and they can be switched off (WCAG 2.1.4)
const move = (step) => {
  const rows = [...document.querySelectorAll(".conv")], now = rows.indexOf(document.activeElement);
  const current = now >= 0 ? now : rows.findIndex((r) => r.hasAttribute("aria-current"));
  rows[Math.min(rows.length - 1, Math.max(0, current + step))]?.focus();
};
const press = (key) => $(`[data-key="${key}"]`)?.click();
const side = () => { const s = $(".shell"); if (s && $("#side")) s.dataset.view = s.dataset.view === "side" ? "main" : "side"; };
let going = 0;
const keys = {
  j: () => move(1), k: () => move(-1), r: () => $("#draft")?.focus(), i: side, h: () => press("h"), e: () => press("e"), a: () => press("a"),
  g: () => { going = Date.now(); }, "?": () => $("#help")?.showModal(),
  ...Object.fromEntries([1, 2, 3, 4, 5].map((n) => [n, () => { $(`#composer label:nth-of-type(${n}) input`)?.click(); $("#draft")?.focus(); }])),
};
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape" && typing(e.target)) return e.target.blur();
  if (root.dataset.keys === "off" || e.ctrlKey || e.metaKey || e.altKey || typing(e.target)) return;
  if (Date.now() - going < 1200 && { i: 1, d: 1 }[e.key]) { location.href = e.key === "i" ? "/inbox" : "/operations/dead"; return; }
  if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
});
document.addEventListener("click", (e) => {
  if (e.target.closest("[data-do=theme]")) nextTheme();
  if (e.target.closest("[data-do=help]")) $("#help")?.showModal();
  const details = e.target.closest("[data-do=details]");
  if (details && innerWidth >= 820) { e.preventDefault(); side(); }
});
