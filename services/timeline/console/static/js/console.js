// What the server cannot do alone: keys, where the answer goes, a thread that does not jump, and when to fetch what is new.
// No dependency beside htmx, no inline code. Without this script every form still works as a page.
const $ = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const typing = (el) => el.matches?.("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable=true]");
const root = document.documentElement;
const cookie = (name, value) => { document.cookie = `${name}=${value};path=/;max-age=31536000;samesite=strict`; };
const place = (name) => new URLSearchParams(location.search).get(name);

// --- the server renders times in the reader's zone and the first paint in the reader's theme: both are cookies
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.includes(`tz=${encodeURIComponent(zone)}`)) cookie("tz", encodeURIComponent(zone));
const themes = { "": "dark", dark: "light", light: "" };
function nextTheme() {
  const next = themes[root.dataset.theme ?? ""];
  if (next) root.dataset.theme = next; else delete root.dataset.theme;
  cookie("theme", next);
}

// --- thread: follow the end only while the reader is at the end; otherwise count, and let them come
const thread = $(".thread"), pill = $("[data-do=newest]");
const ARTICLE = "article.m, aside.note";
const known = new Set(all(ARTICLE).map((one) => one.id));
let following = true, unseen = 0;
const atEnd = () => thread.scrollHeight - thread.scrollTop - thread.clientHeight < 80;
function toEnd() { thread.scrollTop = thread.scrollHeight; following = true; unseen = 0; pill.hidden = true; seen(); }
function arrived(added) {
  if (!added.length) return;
  if (following || added.some((one) => one.classList.contains("sending"))) return toEnd();
  unseen += added.length;
  pill.hidden = false;
  $("span", pill).textContent = `${unseen} ${pill.dataset.word}`;
}
// An answer names the newest message that its writer has had on the screen: who was faster is noticed by the router.
function seen() {
  const legs = $("#legs");
  if (!legs || !following) return;
  for (const name of ["saw", "version"]) {
    for (const one of all(`#composer [name=${name}], form:is([data-step], [data-quick]) [name=${name}]`)) one.value = legs.dataset[name];
  }
}
if (thread) {
  thread.addEventListener("scroll", () => { following = atEnd(); if (following) { unseen = 0; pill.hidden = true; seen(); } }, { passive: true });
  new MutationObserver(() => {
    const fresh = all(ARTICLE, thread).filter((one) => !known.has(one.id));
    for (const one of fresh) known.add(one.id);
    if (fresh.length) arrived(fresh); else if (following) thread.scrollTop = thread.scrollHeight;
  }).observe(thread, { childList: true, subtree: true });
  new ResizeObserver(() => { if (following) thread.scrollTop = thread.scrollHeight; }).observe(thread);
  if (location.hash.startsWith("#e-")) $(location.hash)?.scrollIntoView(); else if (!place("before")) toEnd();
}

// --- what is new is fetched and morphed in place: one request at a time, and at most one more owed
function paced(run, wait) {
  let timer = 0, busy = false, owed = false;
  const go = async () => {
    timer = 0; busy = true; owed = false;
    try { await run(); } catch { /* the line below says so; the next event or the connection coming back asks again */ }
    busy = false;
    if (owed) ask();
  };
  const ask = () => { if (busy) owed = true; else timer ||= setTimeout(go, wait); };
  return ask;
}
const swap = (url, target) => htmx.ajax("GET", url, { target, swap: "outerMorph" });
const held = (part) => part?.contains(document.activeElement) || Boolean($("details[open]", part ?? document.createElement("i")));
const refreshThread = paced(async () => {
  const id = $("#legs")?.dataset.conversation, query = `?view=${place("view") ?? "queue"}`;
  if (!id || place("before")) return;
  await swap(`/c/${id}/legs${query}`, "#legs");
  const now = $("#legs").dataset.conversation;
  if (now !== id) return goOn(id, now);
  seen();
  await swap(`/c/${id}/bar${query}`, "#bar");
  if ($("#composer")?.dataset.state !== $("#bar").dataset.state) return location.reload();   // the composer opens or closes with the case; drafts are kept
  if (!held($("#panel"))) await swap(`/c/${id}/panel${query}`, "#panel");
  await swap(`/c/${id}/queue${query}`, "#queue");
}, 120);

let pointing = false, leftAt = 0, later = 0;
const list = $(".list");
list?.addEventListener("pointerenter", () => { pointing = true; });
list?.addEventListener("pointerleave", () => { pointing = false; leftAt = Date.now(); });
const refreshList = paced(async () => {
  const rows = $("#rows");
  if (!rows) return;
  const before = new Set(all(".conv", rows).map((row) => row.dataset.id));
  const busy = pointing || rows.contains(document.activeElement) || Date.now() - leftAt < 2000;
  const shown = busy ? `&keep=${all(".conv", rows).map((row) => row.dataset.id).join(",")}` : "";
  await swap(`/inbox/rows?view=${rows.dataset.view}&current=${rows.dataset.current}&from=${rows.dataset.since}${shown}`, "#rows");
  announce(all("#rows .conv").filter((row) => !before.has(row.dataset.id)).length);
  await swap(`/inbox/views?view=${rows.dataset.view}`, "#views");
  clearTimeout(later);
  if (busy) later = setTimeout(refreshList, 2200);   // then in the new order, once nobody is about to click
}, 300);
let announcedAt = 0, unsaid = 0;
function announce(fresh) {   // to a screen reader: politely, and at most every half minute
  unsaid += fresh;
  if (!unsaid || Date.now() - announcedAt < 30000) return;
  const said = $("#announce");
  said.textContent = `${unsaid} ${said.dataset.word}`;
  unsaid = 0; announcedAt = Date.now();
}
document.addEventListener("thread", refreshThread);
document.addEventListener("list", refreshList);
setInterval(() => { if (!document.hidden) { refreshList(); refreshThread(); } }, 60000);   // clocks run without events

// A conversation that was joined goes on as another: the drafts go with it.
function goOn(from, to) {
  for (const key of Object.keys(sessionStorage).filter((one) => one.startsWith(`draft:${from}:`))) {
    sessionStorage.setItem(key.replace(from, to), sessionStorage.getItem(key));
  }
  location.replace(`/c/${to}${location.search}`);
}

// --- the line: said after two missed heartbeats or a broken connection, taken back when it is there again
const live = $("#live");
if (live) {
  let last = Date.now(), off = false;
  const bar = $("#offline"), at = () => new Date(last).toTimeString().slice(0, 5);
  const show = (now) => {
    if (off === now) return;
    off = now; live.classList.toggle("off", off);
    $("span", live).textContent = off ? live.dataset.offShort.replace("{at}", at()) : live.dataset.on;
    if (bar) { bar.hidden = !off; $("span", bar).textContent = off ? live.dataset.off.replace("{at}", at()) : ""; }
    if (!off) { refreshThread(); refreshList(); }
  };
  const alive = () => { last = Date.now(); show(false); };
  for (const name of ["htmx:sse:after:connection", "htmx:sse:before:message", "beat", "thread", "list"]) document.addEventListener(name, alive);
  for (const name of ["htmx:sse:error", "htmx:sse:close"]) document.addEventListener(name, () => show(true));
  addEventListener("offline", () => show(true));
  setInterval(() => { if (Date.now() - last > 35000) show(true); }, 5000);
}

// --- composer: one draft per leg, the whole box says where the words will appear, and in public the first press only asks
const composer = $("#composer");
if (composer) {
  const text = $("textarea", composer), send = $(".tools [type=submit]", composer), box = $("#trouble-box");
  const icon = { public: "globe", private: "lock", note: "sticky-note" };
  const draftKey = (leg) => `draft:${composer.dataset.conversation}:${leg}`;
  const fresh = () => { composer.elements.key.value = crypto.randomUUID(); };
  const radios = () => all("input[name=leg]", composer);
  let leg = $("input[name=leg]:checked", composer);
  const armed = () => composer.elements.sure.value === "1";
  const grow = () => { text.rows = Math.min(8, Math.max(1, text.value.split("\n").length + Math.floor(text.value.length / 90))); };
  const disarm = () => { composer.elements.sure.value = ""; $(".do", composer).textContent = leg.dataset.send; };
  const show = () => {
    const sees = leg.dataset.sees;
    disarm();
    composer.classList.toggle("public", sees === "public");
    composer.classList.toggle("note", sees === "note");
    composer.elements.shown.value = leg.value;
    send.className = `btn ${sees === "public" ? "public" : "primary"}`;
    $(".to", composer).textContent = leg.dataset.where;
    $("#hint").textContent = leg.dataset.hint;
    text.placeholder = sees === "note" ? text.dataset.note : text.dataset.write;
    text.setAttribute("aria-label", text.placeholder);
    for (const use of all(".sees use", composer)) use.setAttribute("href", `/static/img/icons.svg#${icon[sees]}`);
    grow();
  };
  const load = () => { text.value = sessionStorage.getItem(draftKey(leg.value)) ?? ""; };
  const save = () => { text.value ? sessionStorage.setItem(draftKey(leg.value), text.value) : sessionStorage.removeItem(draftKey(leg.value)); };
  const calm = () => { box.replaceChildren(); text.removeAttribute("aria-invalid"); };
  const to = (radio) => { save(); leg = radio; radio.checked = true; load(); calm(); show(); };
  const asked = armed();
  if (text.value) save(); else load();
  if (!asked) show(); else grow();
  composer.addEventListener("change", (e) => { if (e.target.name === "leg") to(e.target); });
  text.addEventListener("input", () => { save(); grow(); if (armed()) disarm(); if (text.getAttribute("aria-invalid")) calm(); });
  text.addEventListener("keydown", (e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) { e.preventDefault(); composer.requestSubmit(send); } });
  document.addEventListener("click", (e) => {
    const link = e.target.closest("[data-do=write]"), radio = link && radios().find((one) => one.value === link.dataset.leg);
    if (radio) { e.preventDefault(); to(radio); if (innerWidth < 820) $(".shell").dataset.view = "main"; text.focus(); }
  });

  const bubble = (words, key) => {
    const shown = document.createElement("article"), b = document.createElement("div"), p = document.createElement("p");
    shown.className = "m us sending"; shown.id = `sending-${key}`;
    b.className = "b"; p.textContent = words; b.append(p); shown.append(b);
    (all("#legs > .leg").pop() ?? $("#legs")).append(shown);
    return shown;
  };
  const acts = {
    "to-private": (words) => {
      const other = radios().find((one) => one.dataset.sees === "private" && !one.disabled);
      text.value = ""; save();
      if (other) { to(other); text.value = words; save(); grow(); return; }
      const invite = $("#invite"), first = $("[name=private_text]", invite ?? composer);   // the way there is the invitation
      calm(); grow();
      if (first) { invite.open = true; first.value = words; if (innerWidth < 1280) side(); first.focus(); } else text.value = words;
    },
    cut: (words) => {
      text.value = all("input[name=found]", box).reduce((left, one) => left.replaceAll(one.value, ""), words).replace(/ {2,}/g, " ");
      save(); calm(); grow();
    },
    keep: () => calm(),
    throw: () => { text.value = ""; save(); calm(); fresh(); grow(); },
  };
  composer.addEventListener("click", (e) => {
    const act = e.target.closest("#trouble-box [data-do], #trouble-box [name=do]"), name = act?.dataset.do ?? act?.value;
    if (act?.dataset.to) { e.preventDefault(); return goOn(composer.dataset.conversation, act.dataset.to); }
    if (!acts[name]) return;
    e.preventDefault(); disarm(); acts[name](text.value);
    if (!$("#invite")?.contains(document.activeElement)) text.focus();
  });
  composer.addEventListener("submit", async (e) => {
    e.preventDefault();
    const words = text.value.trim(), anyway = e.submitter?.name === "anyway";
    if (!words || send.getAttribute("aria-disabled") === "true") return;
    if (leg.dataset.sees === "public" && !armed()) {
      composer.elements.sure.value = "1"; $(".do", composer).textContent = leg.dataset.again;
      return;
    }
    if (anyway) fresh();   // another wish than the one that lost
    const body = new URLSearchParams(new FormData(composer, e.submitter));
    body.set("sure", "1");
    send.setAttribute("aria-disabled", "true");
    const shown = leg.dataset.sees === "note" ? null : bubble(words, composer.elements.key.value), sentOn = leg;
    const answer = await fetch(composer.action, { method: "POST", body, headers: { "x-part": "1" } }).catch(() => null);
    send.removeAttribute("aria-disabled");
    if (answer?.ok) {
      const entry = answer.headers.get("x-entry");
      known.add(`e-${entry}`);
      if (document.getElementById(`e-${entry}`)) shown?.remove(); else if (shown && entry) shown.id = `e-${entry}`;   // the server's own takes its place
      sessionStorage.removeItem(draftKey(sentOn.value));
      if (sentOn.value.startsWith("new:")) return location.assign(location.pathname + location.search);   // there is a leg now
      if (leg === sentOn && text.value.trim() === words) text.value = "";
      calm(); fresh(); show(); save(); refreshThread();
      return;
    }
    shown?.remove();
    if (answer?.status === 401) return location.assign("/login");
    box.innerHTML = answer ? await answer.text() : "";   // our own page's fragment, escaped by the server
    if (!answer) box.append(refusal(live?.dataset.off.replace("{at}", new Date().toTimeString().slice(0, 5)) ?? ""));
    text.setAttribute("aria-invalid", "true"); text.focus(); disarm();
    if (answer?.status === 409) { fresh(); refreshThread(); }
  });
}
function refusal(words) {
  const p = document.createElement("p");
  p.className = "refuse"; p.setAttribute("role", "alert"); p.textContent = words;
  return p;
}

// --- other forms: done in place, and what went wrong is said beside the button
document.addEventListener("submit", async (e) => {
  const form = e.target, step = form.matches("[data-step]");
  if (!step && !form.matches("[data-quick]")) return;
  e.preventDefault();
  const box = step ? $(".trouble", form) : form.closest("#panel") ? $("#panel-trouble") : $("#bar-trouble");
  const button = $("[type=submit]", form);
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), headers: { "x-part": "1" } }).catch(() => null);
  button.removeAttribute("aria-disabled");
  if (answer?.status === 401) return location.assign("/login");
  box.innerHTML = answer && !answer.ok ? await answer.text() : "";
  if (!answer) box.append(refusal(live?.dataset.off.replace("{at}", new Date().toTimeString().slice(0, 5)) ?? ""));
  const newer = answer?.headers.get("x-version");
  if (newer && form.elements.version) form.elements.version.value = newer;   // pressed again, it is about what is there now
  if (answer?.ok && step) { form.closest("details").open = false; $("#draft")?.focus(); }
  if (answer?.ok && /\/(resolve|reopen)\?/.test(form.action)) return location.reload();   // the composer opens or closes with the case
  refreshThread(); refreshList();
});

// --- a queued message counts down to when it leaves
setInterval(() => {
  for (const form of all("form[data-until]")) {
    const left = Math.ceil((new Date(form.dataset.until) - Date.now()) / 1000);
    if (left > 0) $("b", form).textContent = `${left} s`; else { form.remove(); refreshThread(); }
  }
}, 1000);

// --- keys: single letters only outside fields, and they can be switched off (WCAG 2.1.4)
const move = (step) => {
  const rows = all(".conv"), now = rows.indexOf(document.activeElement);
  const current = now >= 0 ? now : rows.findIndex((row) => row.hasAttribute("aria-current"));
  rows[Math.min(rows.length - 1, Math.max(0, current + step))]?.focus();
};
const press = (key) => $(`[data-key="${key}"]`)?.click();
const side = () => {
  const shell = $(".shell"), panel = $("#side");
  if (!panel) return;
  const open = shell.dataset.view !== "side";
  shell.dataset.view = open ? "side" : "main";
  if (getComputedStyle(panel).position === "fixed") ($(open ? "#side a" : "#bar .details") ?? panel).focus();
};
const toLeg = (n) => { const radio = all("#composer input[name=leg]")[n - 1]; if (radio && !radio.disabled) { radio.click(); $("#draft").focus(); } };
let going = 0;
const keys = {
  j: () => move(1), k: () => move(-1), r: () => $("#draft")?.focus(), i: side, h: () => press("h"), e: () => press("e"), a: () => press("a"),
  g: () => { going = Date.now(); }, "?": () => $("#help")?.showModal(),
  ...Object.fromEntries([1, 2, 3, 4, 5].map((n) => [n, () => toLeg(n)])),
};
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape" && typing(e.target)) return e.target.blur();
  if (root.dataset.keys === "off" || e.ctrlKey || e.metaKey || e.altKey || typing(e.target) || $("dialog[open]")) return;
  if (Date.now() - going < 1200 && { i: 1, d: 1 }[e.key]) { location.href = e.key === "i" ? "/inbox" : "/operations/dead"; return; }
  if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
});
document.addEventListener("change", (e) => {
  if (!e.target.matches("[data-do=keys]")) return;
  if (e.target.checked) delete root.dataset.keys; else root.dataset.keys = "off";
  cookie("keys", e.target.checked ? "on" : "off");
});
document.addEventListener("click", (e) => {
  if (e.target.closest("[data-do=theme]")) nextTheme();
  if (e.target.closest("[data-do=help]")) $("#help")?.showModal();
  if (e.target.closest("[data-do=newest]")) { toEnd(); thread.focus(); }
  if (e.target.closest("[data-do=details]") && innerWidth >= 820 && innerWidth < 1280) { e.preventDefault(); side(); }
});
