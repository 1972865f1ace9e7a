"use strict";
// Shows openapi.json as a page on which every operation can be tried. Text only ever becomes text, never markup.

const make = (tag, attributes = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children.filter((child) => child !== null));
  return element;
};

/** Prose with `code` in it. */
const prose = (tag, attributes, text) =>
  make(tag, attributes, ...text.replaceAll("**", "").split(/(`+[^`]+`+)/).map((part) =>
    part.startsWith("`") ? make("code", { textContent: part.replaceAll("`", "") }) : part));

const resolve = (api, schema) => {
  if (!schema) return {};
  if (schema.$ref) return resolve(api, schema.$ref.split("/").slice(1).reduce((found, key) => found[key], api));
  return schema;
};

/** An example body: what a person would start from. */
const example = (api, schema, depth = 0) => {
  const found = resolve(api, schema);
  if (depth > 4) return null;
  if (found.default !== undefined) return found.default;
  if (found.examples) return found.examples[0];
  if (found.anyOf) return example(api, found.anyOf[0], depth + 1);
  if (found.enum) return found.enum[0];
  if (found.type === "object") {
    const wanted = found.required ?? Object.keys(found.properties ?? {}).slice(0, 1);
    return Object.fromEntries(wanted.map((key) => [key, example(api, found.properties[key], depth + 1)]));
  }
  return { array: [], string: "", integer: 0, number: 0, boolean: false }[found.type] ?? null;
};

/** The values that a schema takes, in few words. */
const kind = (api, schema) => {
  const found = resolve(api, schema);
  if (found.anyOf) return found.anyOf.map((one) => kind(api, one)).join(" or ");
  if (found.enum) return found.enum.join(" | ");
  if (found.type === "array") return `list of ${kind(api, found.items)}`;
  return found.format ?? found.type ?? "";
};

/** A row for each field of an object; those of an object within it follow, by their path. */
const fields = (api, schema, prefix = "") =>
  Object.entries(resolve(api, schema).properties ?? {}).flatMap(([name, property]) => {
    const inner = resolve(api, property);
    const nested = inner.properties ? fields(api, inner, `${prefix}${name}.`) : [];
    const row = make("tr", {}, make("td", {}, make("code", { textContent: prefix + name })),
      make("td", { textContent: nested.length ? "object" : kind(api, property) }),
      prose("td", { className: "said" }, property.description ?? inner.description ?? ""));
    return [row, ...nested];
  });

const shape = (api, schema) => {
  const rows = fields(api, schema);
  return rows.length ? make("table", {}, ...rows) : null;
};

/** What an empty input stands for. */
const hint = (api, schema) => {
  const found = resolve(api, schema);
  const fallback = found.default;
  const said = kind(api, schema).replace(/ or null$/, "");
  return fallback === undefined || fallback === null || fallback.length === 0 ? said : `${said}; ${fallback} when empty`;
};

const field = (label, control) => [make("label", {}, label, control)];

const show = async (response, out) => {
  const type = response.headers.get("content-type") ?? "";
  const head = `${response.status} ${response.statusText}\n${type}\n\n`;
  if (type.startsWith("text/event-stream")) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    out.textContent = head;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      out.textContent = (out.textContent + decoder.decode(value, { stream: true })).slice(-20000);
    }
  }
  if (type.includes("json")) out.textContent = head + JSON.stringify(await response.json(), null, 2);
  else if (type.startsWith("text/")) out.textContent = head + (await response.text()).slice(0, 20000);
  else { out.textContent = head + `${response.headers.get("content-length") ?? "?"} bytes`; await response.body?.cancel(); }
};

const operationView = (api, path, method, operation) => {
  const parameters = operation.parameters ?? [];
  const inputs = new Map(parameters.map((parameter) => [parameter, make("input", {
    autocomplete: "off", spellcheck: false, required: parameter.required === true, placeholder: hint(api, parameter.schema) })]));
  const bodySchema = operation.requestBody?.content?.["application/json"]?.schema;
  const body = bodySchema ? make("textarea", { spellcheck: false, value: JSON.stringify(example(api, bodySchema) ?? {}, null, 2) }) : null;
  const out = make("pre", { hidden: true });
  const stop = make("button", { type: "button", textContent: "Stop", hidden: true, onclick: () => running?.abort() });
  let running = null;
  const send = async () => {
    if (![...inputs.values()].every((input) => input.reportValidity())) return;
    running?.abort();
    running = new AbortController();
    let url = path.slice(1);
    const query = new URLSearchParams();
    const headers = {};
    for (const [parameter, input] of inputs) {
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value && parameter.in === "query") {
        const values = resolve(api, parameter.schema).type === "array" ? input.value.split(/[\s,]+/) : [input.value];
        values.forEach((value) => query.append(parameter.name, value));
      }
      else if (input.value) headers[parameter.name] = input.value;
    }
    if (body) headers["Content-Type"] = "application/json";
    out.hidden = stop.hidden = false;
    out.textContent = "…";
    const mine = running;
    try {
      const address = query.size ? `${url}?${query}` : url;
      await show(await fetch(address, { method: method.toUpperCase(), headers, body: body?.value, signal: mine.signal }), out);
    } catch (error) {
      if (error.name !== "AbortError") out.textContent = String(error);
    }
    if (running === mine) stop.hidden = true;
  };
  const answers = Object.entries(operation.responses).map(([status, answer]) =>
    make("tr", {}, make("td", { textContent: status }), prose("td", {}, answer.description)));
  return make("details", {},
    make("summary", {}, make("span", { className: `method ${method}`, textContent: method.toUpperCase() }),
      make("span", { className: "path", textContent: path }), make("span", { className: "said", textContent: operation.summary ?? "" })),
    make("div", { className: "body" },
      prose("p", {}, operation.description ?? ""),
      ...[...inputs].flatMap(([parameter, input]) =>
        field(prose("span", {}, `\`${parameter.name}\` in the ${parameter.in}${parameter.required ? ", required" : ""}. ${parameter.description ?? ""}`), input)),
      ...(body ? field("Body (JSON)", body) : []), body ? shape(api, bodySchema) : null,
      make("button", { type: "button", textContent: "Send", onclick: send }), stop,
      out, make("h3", { textContent: "Answers" }), make("table", {}, ...answers)));
};

const start = async () => {
  const api = await (await fetch("openapi.json")).json();
  const groups = new Map();
  for (const [path, operations] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), operationView(api, path, method, operation)]);
    }
  document.getElementById("page").replaceChildren(
    make("h1", { textContent: api.info.title }),
    make("p", { className: "said", textContent: `Version ${api.info.version}` }),
    ...api.info.description.trim().split("\n\n").map((text) => prose("p", {}, text)),
    ...[...groups].flatMap(([tag, views]) => [make("h2", { textContent: tag }), ...views]));
};

start().catch((error) => { document.getElementById("page").textContent = String(error); });
