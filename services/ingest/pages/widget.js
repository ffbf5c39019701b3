/* The chat widget: one script tag on any site that the account allows.

     <script src="https://hilo.example/chat/shop/widget.js" defer></script>

   Nothing typed is lost: a message stays in the browser until the server says that it is on the log, and is sent again under
   the same id. What the visitor may read is opened by a secret that this browser made and a token that the server signed.
   A site that knows who is logged in calls hiloChat.identify(token) with its own signed token, and hiloChat.logout(). */
(() => {
  "use strict";
  const CONFIG = /*config*/ {} /*config*/;
  const script = document.currentScript;
  const BASE = script.src.replace(/\/widget\.js.*$/, "");
  const SOCKET = `${BASE.replace(/^http/, "ws")}/socket`;
  const STORE = `hilo.chat.${CONFIG.account}`;
  const KEPT = 100; // messages that are shown again after the page is opened anew
  const CLOSED = { RATE: 1013, NOT_YOURS: 4401, NOT_SIGNED: 4403 };
  const TYPES = "image/jpeg,image/png,image/gif,image/webp,image/heic,video/mp4,video/webm,video/quicktime,audio/*,application/pdf";

  const TEXTS = {
    es: {
      open: "Abrir el chat", close: "Cerrar el chat", dialog: "Chat con", log: "Mensajes", input: "Tu mensaje",
      placeholder: "Escribe aquí…", send: "Enviar el mensaje", attach: "Adjuntar foto, vídeo o documento",
      only: "Solo lo leéis {title} y tú.", online: "Te contestamos aquí mismo", offline: "Sin conexión; lo que escribas se guarda",
      sending: "enviando", waiting: "esperando conexión", sent: "enviado", uploading: "subiendo {n} %", failed: "No salió.",
      retry: "Reintentar", drop: "Quitar", typing: "{title} está escribiendo", deleted: "Mensaje borrado", file: "Archivo",
      leave: "¿Te tienes que ir?", whatsapp: "Sigue por WhatsApp", elsewhere: "Sigue en otro sitio",
      nothing: "no tendrás que repetir nada.", unread: "{n} sin leer", full: "Pesa demasiado o no es un tipo de archivo que podamos abrir.",
    },
    en: {
      open: "Open the chat", close: "Close the chat", dialog: "Chat with", log: "Messages", input: "Your message",
      placeholder: "Write here…", send: "Send the message", attach: "Attach a photo, video or document",
      only: "Only {title} and you can read this.", online: "We answer you right here", offline: "No connection; what you write is kept",
      sending: "sending", waiting: "waiting for a connection", sent: "sent", uploading: "uploading {n}%", failed: "It was not sent.",
      retry: "Try again", drop: "Remove", typing: "{title} is writing", deleted: "Message deleted", file: "File",
      leave: "Have to go?", whatsapp: "Go on in WhatsApp", elsewhere: "Go on elsewhere",
      nothing: "you will not have to repeat anything.", unread: "{n} unread", full: "It is too big, or not a kind of file that we can open.",
    },
  };
  const wish = (CONFIG.language || document.documentElement.lang || navigator.language || "es").slice(0, 2).toLowerCase();
  const LANGUAGE = wish in TEXTS ? wish : "en";
  const t = (name, values = {}) => TEXTS[LANGUAGE][name].replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? CONFIG[key] ?? whole);

  const ICONS = {
    chat: ["M4 4h16v12h-8l-4.5 4v-4H4z", "M8 10h.01M12 10h.01M16 10h.01"],
    x: ["M18 6 6 18", "m6 6 12 12"],
    lock: ["M5 11h14a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2z", "M7 11V7a5 5 0 0 1 10 0v4"],
    send: ["M3.7 3a.5.5 0 0 0-.7.7l2.9 7.6a2 2 0 0 1 0 1.4L3 20.3a.5.5 0 0 0 .7.7l18-8.5a.5.5 0 0 0 0-1z", "M6 12h16"],
    clip: ["m16 6-8.4 8.6a2 2 0 0 0 2.8 2.8l8.4-8.6a4 4 0 1 0-5.6-5.6L4.800 11.800a6 6 0 1 0 8.500 8.500l8.400-8.700"],
    go: ["M15 3h6v6", "M10 14 21 3", "M18 13v6a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V8a2 2 0 0 1 2-2h6"],
  };

  /** An element with its attributes, listeners and children; text is always text, never markup. */
  function el(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
    }
    node.append(...children.filter((one) => one !== null && one !== undefined));
    return node;
  }

  function icon(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "i");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    for (const d of ICONS[name]) {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", d);
      svg.append(path);
    }
    return svg;
  }

  function random(bytes) {
    const text = String.fromCharCode(...crypto.getRandomValues(new Uint8Array(bytes)));
    return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  }

  // -- what this browser keeps -------------------------------------------------------------------------------------------

  /* Of somebody who is logged in nothing outlives the tab: the next one at this computer may be somebody else. */
  let signed = null;
  const fresh = () => ({ visitor: random(24), resume: "", after: 0, log: [], outbox: [], ref: "" });
  const shelf = () => (signed ? sessionStorage : localStorage);
  const shelfName = () => (signed ? `${STORE}.user` : STORE);
  let memory = {};

  function load() {
    try {
      const kept = JSON.parse(shelf().getItem(shelfName()));
      return kept && kept.visitor ? { ...fresh(), ...kept } : fresh();
    } catch {
      return memory[shelfName()] ?? fresh();
    }
  }

  const waiting = (entry) => Boolean(entry?.frame) && entry.state !== "sent" && entry.state !== "failed";
  const removed = new Set();

  /** Another tab of the same visitor writes here as well: what it has is taken over, and nothing of it is written away. */
  function merge() {
    const kept = load();
    if (kept.visitor !== state.visitor) return { outbox: [], after: 0 };
    for (const entry of kept.log) {
      const mine = entryOf(entry.id);
      if (!mine && !removed.has(entry.id)) { state.log.push(entry); draw(entry); }
      if (mine && entry.state === "sent" && waiting(mine)) { mine.state = "sent"; delete mine.frame; draw(mine); }
    }
    state.log.sort((one, other) => (one.at < other.at ? -1 : 1));
    return { outbox: kept.outbox.filter((id) => !state.outbox.includes(id) && waiting(entryOf(id))), after: kept.after };
  }

  function save() {
    const others = merge();
    const log = state.log.filter((entry, place) => waiting(entry) || place >= state.log.length - KEPT);
    const kept = { ...state, log, outbox: [...state.outbox, ...others.outbox], after: Math.max(state.after, others.after) };
    memory[shelfName()] = state;
    try {
      shelf().setItem(shelfName(), JSON.stringify(kept, (key, value) => (key.startsWith("_") ? undefined : value)));
    } catch { /* a browser that keeps nothing: this page still works */ }
  }

  let state = load();
  const ref = new URLSearchParams(location.search).get("ref") ?? "";
  if (/^(HILO-[\w-]{4,20}|[\w-]{40})$/i.test(ref)) state.ref = ref;

  // -- what is shown -------------------------------------------------------------------------------------------------------

  const host = el("div", { id: "hilo-chat" });
  if (script.dataset.theme) host.dataset.theme = script.dataset.theme;
  const root = host.attachShadow({ mode: "open" });
  const badge = el("b", { hidden: true });
  const badgeText = el("span", { class: "unseen" });
  const launch = el("button", { class: "launch", type: "button", "aria-label": t("open"), "aria-expanded": "false", "aria-controls": "hw", onclick: () => show() }, icon("chat"), badge, badgeText);
  const status = el("span", { role: "status" }, t("offline"));
  const log = el("div", { class: "log", role: "log", "aria-label": t("log"), tabindex: "0" }, el("p", { class: "sys" }, icon("lock"), ` ${t("only")}`));
  const typing = el("p", { class: "typing", role: "status", "aria-label": t("typing"), hidden: true }, el("i"), el("i"), el("i"));
  const keepLink = el("a", { target: "_blank", rel: "noopener noreferrer" }, t(CONFIG.whatsapp ? "whatsapp" : "elsewhere"));
  const keep = el("p", { class: "keep", hidden: true }, icon("go"), el("span", {}, `${t("leave")} `, keepLink, `, ${t("nothing")}`));
  const input = el("textarea", { rows: "1", "aria-label": t("input"), placeholder: t("placeholder"), maxlength: "4000", oninput: () => sayTyping(), onkeydown: (event) => key(event) });
  const picker = el("input", { type: "file", accept: TYPES, hidden: true, "aria-label": t("attach"), onchange: () => attach() });
  const form = el("form", { onsubmit: (event) => { event.preventDefault(); write(); } },
    el("button", { type: "button", "aria-label": t("attach"), onclick: () => picker.click() }, icon("clip")), picker, input,
    el("button", { class: "go", type: "submit", "aria-label": t("send") }, icon("send")));
  const panel = el("section", { class: "hw", id: "hw", role: "dialog", "aria-label": `${t("dialog")} ${CONFIG.title}`, lang: LANGUAGE, hidden: true, onkeydown: (event) => { if (event.key === "Escape") hide(); } },
    el("div", { class: "head" }, el("span", { class: "who" }, el("b", {}, CONFIG.title), status), el("button", { type: "button", "aria-label": t("close"), onclick: () => hide() }, icon("x"))),
    log, typing, keep, form);
  root.append(el("link", { rel: "stylesheet", href: `${BASE}/widget.css` }), launch, panel);

  const clock = new Intl.DateTimeFormat(LANGUAGE, { hour: "numeric", minute: "2-digit" });
  const time = (at) => el("time", { datetime: at }, clock.format(new Date(at)));

  /** Text with its addresses as links. */
  function linked(text) {
    return text.split(/(https?:\/\/[^\s<>"]+[^\s<>".,;:!?)])/).map((piece, place) => (place % 2 ? el("a", { href: piece, target: "_blank", rel: "noopener noreferrer nofollow" }, piece) : piece));
  }

  function media(entry) {
    const url = entry._url ?? (/^https?:/.test(entry.ref ?? "") ? entry.ref : null);
    const kind = (entry.media_type ?? "").split("/")[0];
    if (!entry.media_type && !entry.ref) return null;
    const name = entry.name || t("file");
    if (url && kind === "image") return el("img", { src: url, alt: name });
    if (url && kind === "video") return el("video", { src: url, controls: true, "aria-label": name });
    if (url && kind === "audio") return el("audio", { src: url, controls: true, "aria-label": name });
    return el("p", {}, url ? el("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, name) : name);
  }

  function choices(entry) {
    if (!entry.buttons) return null;
    const press = (button) => () => { queue({ type: "choice", button: button.id, title: button.title, reply_to: entry.id }, { text: button.title }); entry.chosen = true; save(); draw(entry); };
    return el("div", { class: "choices" }, ...entry.buttons.map((button) => el("button", { type: "button", disabled: Boolean(entry.chosen), onclick: press(button) }, button.title)));
  }

  function stateOf(entry) {
    if (entry.from !== "me" || !entry.state) return null;
    if (entry.state === "failed") {
      const again = entry._file || entry.frame ? el("button", { type: "button", onclick: () => retry(entry) }, t("retry")) : null;
      return el("span", { class: "state" }, `${entry.reason || t("failed")} `, again, el("button", { type: "button", onclick: () => drop(entry) }, t("drop")));
    }
    const words = entry.state === "uploading" ? t("uploading", { n: entry._progress ?? 0 }) : t(entry.state);
    return el("span", { class: "state" }, words);
  }

  /* Who reads further up stays there; everybody else sees the newest, also when something appears below the log. */
  let atEnd = true;
  const toEnd = () => { log.scrollTop = log.scrollHeight; };
  log.addEventListener("scroll", () => { atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40; });
  new ResizeObserver(() => { if (atEnd) toEnd(); }).observe(log);

  const nodes = new Map();
  function draw(entry) {
    const gone = entry.deleted ? " gone" : "";
    const node = el("article", { class: `${entry.from}${entry.state === "failed" ? " fail" : ""}${gone}`, "data-id": entry.id, "data-state": entry.state });
    if (entry.deleted) node.append(el("p", {}, t("deleted")));
    else node.append(...[media(entry), entry.text ? el("p", {}, ...linked(entry.text)) : null, choices(entry)].filter(Boolean));
    const told = stateOf(entry);
    node.append(el("div", { class: "meta" }, time(entry.at), told ? " · " : null, told));
    if (entry.state === "uploading") node.append(el("progress", { value: String(entry._progress ?? 0), max: "100" }));
    const before = nodes.get(entry.id);
    if (before) before.replaceWith(node);
    else log.append(node);
    nodes.set(entry.id, node);
    if (!before && (atEnd || entry.from === "me")) toEnd();
  }

  function redraw() {
    for (const node of nodes.values()) node.remove();
    nodes.clear();
    state.log.forEach(draw);
    offer();
    count();
  }

  /** The newest link of ours that leads to another place is kept in reach. */
  function offer() {
    const links = state.log.filter((one) => one.from === "them" && one.text && !one.deleted).flatMap((one) => one.text.match(/https?:\/\/[^\s<>"]+/g) ?? []);
    const found = links.reverse().find((url) => url.startsWith(CONFIG.go));
    keep.hidden = !found;
    if (found) keepLink.href = found;
  }

  function count() {
    const unread = state.log.filter((one) => one.from === "them" && one.n > (state.read ?? 0)).length;
    badge.hidden = !unread || !panel.hidden;
    badge.textContent = badgeText.textContent = "";
    if (!badge.hidden) { badge.textContent = String(unread); badgeText.textContent = t("unread", { n: unread }); }
  }

  function show() {
    panel.hidden = false;
    launch.hidden = true;
    launch.setAttribute("aria-expanded", "true");
    connect();
    seen();
    toEnd();
    input.focus();
  }

  function hide() {
    panel.hidden = true;
    launch.hidden = false;
    launch.setAttribute("aria-expanded", "false");
    count();
    launch.focus();
  }

  // -- what the visitor does -----------------------------------------------------------------------------------------------

  function key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); write(); }
  }

  function write() {
    const text = input.value.trim();
    if (!text) return;
    input.value = "";
    queue({ type: "message", text }, { text });
  }

  /** Into the outbox, and from there out in order, each after the one before is safe. */
  function queue(frame, shown) {
    const id = random(12);
    const entry = { id, from: "me", at: new Date().toISOString(), state: ready ? "sending" : "waiting", frame: { ...frame, id }, ...shown };
    state.log.push(entry);
    state.outbox.push(id);
    save();
    draw(entry);
    connect();
    flush();
    return entry;
  }

  const entryOf = (id) => state.log.find((one) => one.id === id);

  function retry(entry) {
    if (entry._file && !entry.frame) { drop(entry); upload(entry._file); return; }
    entry.state = "waiting";
    delete entry.reason;
    state.outbox.push(entry.id);
    save();
    draw(entry);
    flush();
  }

  function drop(entry) {
    removed.add(entry.id);
    state.log = state.log.filter((one) => one !== entry);
    state.outbox = state.outbox.filter((id) => id !== entry.id);
    nodes.get(entry.id)?.remove();
    nodes.delete(entry.id);
    save();
  }

  function attach() {
    for (const file of picker.files) upload(file);
    picker.value = "";
  }

  function upload(file) {
    const local = URL.createObjectURL(file);
    const entry = { id: random(12), from: "me", at: new Date().toISOString(), state: "uploading", name: file.name, media_type: file.type, _url: local, _file: file };
    state.log.push(entry);
    draw(entry);
    const fail = (reason) => { entry.state = "failed"; entry.reason = reason; draw(entry); };
    const request = new XMLHttpRequest();
    request.open("POST", `${BASE}/upload`);
    request.setRequestHeader("content-type", file.type || "application/octet-stream");
    request.setRequestHeader("hilo-visitor", state.visitor);
    request.setRequestHeader("hilo-resume", state.resume);
    if (signed) request.setRequestHeader("hilo-token", signed);
    request.upload.addEventListener("progress", (event) => { entry._progress = Math.round((100 * event.loaded) / event.total); draw(entry); });
    request.addEventListener("error", () => fail(t("failed")));
    request.addEventListener("load", () => {
      if (request.status !== 201) { fail([413, 415].includes(request.status) ? t("full") : t("failed")); return; }
      const { ref: stored, media_type, size } = JSON.parse(request.responseText);
      state.log = state.log.filter((one) => one !== entry);
      nodes.get(entry.id)?.remove();
      nodes.delete(entry.id);
      queue({ type: "message", file: { ref: stored, media_type, size, name: file.name.slice(0, 255) } }, { name: file.name, media_type, _url: local });
    });
    request.send(file);
  }

  let typedAt = 0;
  function sayTyping() {
    if (ready && Date.now() - typedAt > 3000) { typedAt = Date.now(); say({ type: "typing" }); }
  }

  function seen() {
    const last = state.log.reduce((n, one) => Math.max(n, one.n ?? 0), 0);
    if (panel.hidden || document.hidden || last <= (state.read ?? 0)) return;
    state.read = last;
    save();
    count();
    say({ type: "read", n: last });
  }

  // -- the socket ------------------------------------------------------------------------------------------------------------

  let socket = null, ready = false, inFlight = null, tries = 0, heardAt = 0, timer = null;

  function say(frame) {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
  }

  /** A new visitor comes in one tab at a time, so that two which open together are the same visitor. */
  let arriving = false, arrived = () => {};
  function connect() {
    if (socket || timer || arriving) return;
    if (state.resume || signed || !navigator.locks) { open(); return; }
    arriving = true;
    navigator.locks.request(STORE, async () => {
      const kept = load();
      if (kept.resume && !signed) { state.visitor = kept.visitor; state.resume = kept.resume; }
      await new Promise((done) => { arrived = done; open(); });
    }).finally(() => { arriving = false; });
  }

  function open() {
    const offered = ["hilo.chat.1", `visitor.${state.visitor}`];
    if (state.resume && !signed) offered.push(`resume.${state.resume}`);
    if (signed) offered.push(`token.${signed}`);
    const query = new URLSearchParams({ after: String(state.after), ...(state.ref ? { ref: state.ref } : {}) });
    const used = { visitor: state.visitor, resume: state.resume };
    const opened = (socket = new WebSocket(`${SOCKET}?${query}`, offered));
    heardAt = Date.now();
    opened.addEventListener("message", (event) => { heardAt = Date.now(); hear(JSON.parse(event.data)); });
    opened.addEventListener("close", (event) => { arrived(); if (socket === opened) closed(event.code, used); });
  }

  function closed(code, used) {
    socket = null;
    ready = false;
    inFlight = null;
    status.textContent = t("offline");
    for (const id of state.outbox) { const entry = entryOf(id); if (entry) { entry.state = "waiting"; draw(entry); } }
    if (code === CLOSED.NOT_YOURS) renew(used);
    if (code === CLOSED.NOT_SIGNED && signed) { logout(); return; }
    const wait = code === CLOSED.RATE ? 15000 : Math.min(30000, 500 * 2 ** tries) * (0.75 + Math.random() / 2);
    tries += 1;
    timer = setTimeout(() => { timer = null; connect(); }, wait);
  }

  /** Another tab may have become the first; if not, this is a new visitor, who keeps what is not sent. */
  function renew(used) {
    const kept = load();
    if (kept.visitor !== used.visitor || kept.resume !== used.resume) { state.visitor = kept.visitor; state.resume = kept.resume; return; }
    if (!used.resume && tries < 2) return;
    state = { ...fresh(), outbox: state.outbox, log: state.log.filter((one) => state.outbox.includes(one.id)), ref: state.ref };
    save();
    redraw();
  }

  const HEAR = {
    welcome(frame) {
      state.resume = frame.resume;
      if (frame.last < state.after) state.after = frame.last;
      save();
      arrived();
      ready = true;
      tries = 0;
      status.textContent = t("online");
      seen();
      flush();
    },
    accepted(frame) {
      settle(frame.id, (entry) => { entry.state = "sent"; delete entry.frame; });
      state.ref = "";
    },
    retry(frame) {
      if (inFlight === frame.id) { inFlight = null; setTimeout(flush, 2000); }
    },
    refused(frame) {
      if (frame.id) settle(frame.id, (entry) => { entry.state = "failed"; entry.reason = t("failed"); });
    },
    message(frame) {
      next(frame, () => {
        const { id, text, ref: file, media_type, name, buttons } = frame;
        const entry = { id, from: "them", n: frame.n, at: frame.at, text, ref: file, media_type, name, buttons };
        if (!entryOf(id)) { state.log.push(entry); draw(entry); }
        typing.hidden = true;
      });
    },
    edit(frame) {
      next(frame, () => change(frame.target, (entry) => { entry.text = frame.text; }));
    },
    delete(frame) {
      next(frame, () => change(frame.target, (entry) => { entry.deleted = true; }));
    },
    reaction(frame) {
      next(frame, () => {});
    },
    typing(frame) {
      next(frame, () => {
        typing.hidden = false;
        clearTimeout(typing._timer);
        typing._timer = setTimeout(() => { typing.hidden = true; }, 6000);
      });
    },
    ping() {
      say({ type: "pong" });
    },
  };

  function hear(frame) {
    if (Object.hasOwn(HEAR, frame.type)) HEAR[frame.type](frame);
  }

  /** Numbered frames count once, in order; after a lost connection some come again. */
  function next(frame, apply) {
    if (frame.n <= state.after) return;
    state.after = frame.n;
    apply();
    save();
    say({ type: "ack", n: frame.n });
    seen();
    offer();
    count();
  }

  function change(id, how) {
    const entry = entryOf(id);
    if (entry) { how(entry); draw(entry); }
  }

  function settle(id, how) {
    state.outbox = state.outbox.filter((one) => one !== id);
    if (inFlight === id) inFlight = null;
    change(id, how);
    save();
    flush();
  }

  function flush() {
    if (!ready || inFlight) return;
    while (state.outbox.length && !entryOf(state.outbox[0])?.frame) state.outbox.shift();
    const entry = entryOf(state.outbox[0]);
    if (!entry) return;
    inFlight = entry.id;
    entry.state = "sending";
    draw(entry);
    say(entry.frame);
  }

  /* A connection can die without a word; the server is heard every 25 s. */
  setInterval(() => { if (socket && Date.now() - heardAt > 70000) socket.close(); }, 10000);
  addEventListener("online", () => { if (timer) { clearTimeout(timer); timer = null; tries = 0; connect(); } });
  addEventListener("storage", (event) => { if (event.key === STORE && !signed) { merge(); count(); offer(); } });
  document.addEventListener("visibilitychange", seen);

  function start(token) {
    signed = token;
    state = load();
    redraw();
    const old = socket;
    socket = null;
    ready = false;
    inFlight = null;
    old?.close();
    clearTimeout(timer);
    timer = null;
    if (!panel.hidden || state.log.length) connect();
  }

  function logout() {
    if (!signed) return;
    try { sessionStorage.removeItem(`${STORE}.user`); } catch { /* nothing is kept there then */ }
    delete memory[`${STORE}.user`];
    start(null);
  }

  window.hiloChat = { open: show, close: hide, identify: (token) => { if (token !== signed) start(token); }, logout };

  document.body.append(host);
  redraw();
  if (script.dataset.open !== undefined || state.ref) show();
  else if (state.resume || state.outbox.length) connect();
})();
