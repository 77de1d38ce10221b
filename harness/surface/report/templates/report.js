// Makes the page quicker to read; everything but cut texts is there without it. Texts of others
// reach the page as text nodes only: no markup is ever made of a string (the page's policy forbids it).
(() => {
  "use strict";
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const one = (query, root = document) => root.querySelector(query);
  const cases = all(".case");

  // ------------------------------------------------------------ the island of whole texts
  let unpacked = null;
  const island = () => {
    unpacked ??= (async () => {
      const bytes = Uint8Array.from(atob(one("#island").textContent.trim()), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      return JSON.parse(await new Response(stream).text());
    })();
    return unpacked;
  };

  // ------------------------------------------------------------ nodes
  const make = (tag, name, ...inside) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...inside.filter((part) => part !== null && part !== ""));
    return node;
  };
  const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
  const named = (c) => {
    const code = c.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return "\u27e8U+" + code.toString(16).toUpperCase().padStart(4, "0") + "\u27e9";
  };
  const clean = (text) => text.replace(ODD, named);
  // Line ends, tabs, and spaces that stand alone at an edge or in rows become visible; copying
  // the text still gives the text, since the signs are drawn by the style sheet.
  const SPACE = /\n|\t|^ +| +$| {2,}/gm;
  const showSpaces = (node) => {
    const text = node.textContent;
    const parts = [];
    let last = 0;
    for (const match of text.matchAll(SPACE)) {
      if (match.index > last) parts.push(text.slice(last, match.index));
      if (match[0] === "\n") parts.push(make("span", "nl", "\n"));
      else if (match[0] === "\t") parts.push(make("span", "tab", "\t"));
      else for (const space of match[0]) parts.push(make("span", "space", space));
      last = match.index + match[0].length;
    }
    node.replaceChildren(...parts, text.slice(last));
    node.dataset.seen = "1";
  };
  const turn = (role, text) => make("div", "turn", make("span", "role", clean(role)), make("div", "text sp", clean(text)));
  const piece = (name, text) => make("div", name, clean(text));

  // ------------------------------------------------------------ what is filled when it is opened
  const openSent = async (box) => {
    if (box.dataset.sent !== undefined) {
      const kept = await island();
      all(".needs", box).forEach((node) => node.remove());
      box.append(...kept.sent[Number(box.dataset.sent)].map(([role, at]) => turn(role, kept.texts[at])));
      delete box.dataset.sent;
    }
    all(".sp:not([data-seen])", box).forEach(showSpaces);
  };
  const fillTexts = async (root) => {
    const cut = all("[data-text]", root);
    if (!cut.length) return;
    const kept = await island();
    for (const node of cut) {
      node.textContent = clean(kept.texts[Number(node.dataset.text)]);
      delete node.dataset.text;
      if (node.nextElementSibling?.classList.contains("rest")) node.nextElementSibling.remove();
    }
  };
  const card = (reply, texts) => {
    const node = make("article", "reply " + reply.status + " " + (reply.role || "other"));
    const result = make("span", "result", reply.primary);
    node.append(make("header", "", make("span", "sq " + reply.status), make("b", "", clean(reply.candidate)),
      reply.repeat ? make("span", "soft", "repeat " + (reply.repeat + 1)) : "",
      reply.role ? make("span", "tag", reply.role) : "", result));
    if (reply.fault) node.append(make("div", "faulty", make("p", "", reply.fault[0]), piece("text", texts[reply.fault[1]])));
    if (reply.text !== null) node.append(piece("text", texts[reply.text]));
    if (reply.calls !== null) node.append(make("p", "soft", "calls"), piece("text", texts[reply.calls]));
    if (reply.likeness) node.append(make("p", "likeness", reply.likeness));
    if (reply.scores.length) {
      node.append(make("ul", "scores", ...reply.scores.map(([name, status, value, reason]) =>
        make("li", status, make("b", "", clean(name)), " " + value, texts[reason] ? piece("reason said", texts[reason]) : ""))));
    }
    if (reply.facts.length) node.append(make("p", "soft small", clean(reply.facts.join(" · "))));
    if (reply.sent) {
      const [label, settings, at] = reply.sent;
      const box = make("details", "sent", make("summary", "", "Prompt as sent: ", make("span", "soft", label)), make("p", "soft small", clean(settings)));
      box.dataset.sent = at;
      box.addEventListener("toggle", () => { if (box.open) openSent(box); });
      node.append(box);
    }
    return node;
  };
  const buildCase = async (box) => {
    const kept = await island();
    const told = kept.cases[box.dataset.case];
    delete box.dataset.case;
    const body = one(".body", box);
    all(".needs", body).forEach((node) => node.remove());
    const pair = (key, at, name) => make("div", name, make("dt", "", clean(key)), make("dd", "", at === null ? "none" : piece("text", kept.texts[at])));
    body.append(make("dl", "inputs", ...told.inputs.map(([key, at]) => pair(key, at, "")), pair("reference", told.reference, "ref")));
    body.append(make("div", "replies", ...told.replies.map((reply) => card(reply, kept.texts))));
  };
  const openCase = async (box) => {
    if (box.dataset.case !== undefined) await buildCase(box);
    await fillTexts(box);
  };
  cases.forEach((box) => box.addEventListener("toggle", () => { if (box.open) openCase(box); }));
  all(".sent").forEach((box) => box.addEventListener("toggle", () => { if (box.open) openSent(box); }));

  // ------------------------------------------------------------ filters and search
  const tools = one(".tools");
  if (!tools) return;
  tools.hidden = false;
  const field = one("input", tools);
  let filter = "";
  const FIRST = 30; // a page that opens short is read; the button shows the rest
  const rest = make("button", "all", "Show all " + cases.length + " cases");
  rest.type = "button";
  let isWhole = cases.length <= FIRST + 5;
  if (!isWhole) one("#rows").append(rest);
  rest.addEventListener("click", () => {
    isWhole = true;
    sift();
    one("summary", cases[FIRST]).focus();
  });
  const hay = new Map();
  const words = (box) => {
    if (!hay.has(box)) hay.set(box, (box.dataset.id + " " + box.textContent).toLowerCase());
    return hay.get(box);
  };
  const sift = () => {
    const sought = field.value.trim().toLowerCase();
    let shown = 0;
    for (const box of cases) {
      const fits = (!filter || box.dataset.is.split(" ").includes(filter)) && (!sought || words(box).includes(sought));
      box.hidden = !fits;
      shown += fits;
      box.classList.toggle("later", fits && shown > FIRST && !isWhole && !filter && !sought);
    }
    rest.hidden = isWhole || Boolean(filter || sought);
    one(".nothing").hidden = shown > 0;
  };
  all("[data-filter]").forEach((chip) => chip.addEventListener("click", () => {
    filter = chip.dataset.filter;
    if (chip.closest(".nothing")) field.value = "";
    all(".tools [data-filter]").forEach((other) => other.setAttribute("aria-pressed", String(other.dataset.filter === filter)));
    sift();
  }));
  field.addEventListener("input", sift);
  sift();

  // ------------------------------------------------------------ keys and deep links
  const move = (by) => {
    const shown = cases.filter((box) => !box.hidden && !box.classList.contains("later"));
    const at = shown.findIndex((box) => box.contains(document.activeElement));
    const next = shown[Math.min(shown.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
    if (!next) return;
    one("summary", next).focus();
    next.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === field) {
      if (event.key === "Escape") field.blur();
      return;
    }
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "d") document.body.classList.toggle("no-diff");
    else if (event.key === "w") document.body.classList.toggle("no-space");
    else if (event.key === "/") field.focus();
    else return;
    event.preventDefault();
  });
  const asked = () => {
    try {
      return decodeURIComponent(location.hash.slice(1));
    } catch {
      return ""; // a broken escape in the address
    }
  };
  const follow = () => {
    const sought = asked();
    const box = cases.find((other) => "case=" + other.dataset.id === sought || other.id === sought);
    if (!box) return;
    box.hidden = false;
    box.classList.remove("later");
    box.open = true;
    box.scrollIntoView();
  };
  cases.forEach((box) => box.addEventListener("toggle", () => {
    if (box.open) history.replaceState(null, "", "#case=" + encodeURIComponent(box.dataset.id));
  }));
  addEventListener("hashchange", follow);
  follow();
})();
