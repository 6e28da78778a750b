// Node's own gRPC client, from the plain .proto files: every KeyValue call, a login and administrative calls.
//
// It reads what it needs as JSON from standard input and writes what it found as JSON to standard output; the test
// beside it says what that has to be. A failure is found as {code, reason}, binary values as text.
"use strict";

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
const options = { longs: String, enums: String, defaults: true, oneofs: true, keepCase: true };
const ours = loader.loadSync(
  ["key_value", "auth", "namespaces", "maintenance"].map((name) => `prefixdb/v1/${name}.proto`),
  { ...options, includeDirs: [input.protos] },
);
const details = loader.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"], {
  ...options,
  includeDirs: [input.google_protos],
});
const v1 = grpc.loadPackageDefinition(ours).prefixdb.v1;
const credentials = input.ca
  ? grpc.credentials.createSsl(Buffer.from(input.ca), Buffer.from(input.key), Buffer.from(input.certificate))
  : grpc.credentials.createInsecure();
const connect = (Service) => new Service(input.address, credentials);

function bearer(token) {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return metadata;
}

function failureOf(error) {
  const [raw] = error.metadata ? error.metadata.get("grpc-status-details-bin") : [];
  const found = { code: error.code, text: error.details, reason: "" };
  for (const detail of raw ? details["google.rpc.Status"].deserialize(raw).details : []) {
    if (detail.type_url.endsWith("/google.rpc.ErrorInfo")) {
      found.reason = details["google.rpc.ErrorInfo"].deserialize(detail.value).reason;
    }
  }
  return found;
}

function unary(client, name, request, token, more = {}) {
  return new Promise((resolve) => {
    const deadline = Date.now() + 20_000;
    client[name](request, token === null ? new grpc.Metadata() : bearer(token), { deadline, ...more }, (error, answer) =>
      resolve(error ? failureOf(error) : answer),
    );
  });
}

function streamed(call) {
  return new Promise((resolve) => {
    const messages = [];
    call.on("data", (message) => messages.push(message));
    call.on("error", (error) => resolve({ messages, ...failureOf(error) }));
    call.on("end", () => resolve({ messages, code: 0 }));
  });
}

async function keyValue(token) {
  const rows = connect(v1.KeyValue);
  const found = {};
  found.put = await unary(rows, "Put", { key: Buffer.from("a"), value: Buffer.from("one") }, token);
  const condition = { version: found.put.version };
  found.conditional = await unary(rows, "Put", { key: Buffer.from("a"), value: Buffer.from("two"), condition }, token);
  found.unmet = await unary(rows, "Put", { key: Buffer.from("a"), value: Buffer.from("three"), condition }, token);
  found.get = await unary(rows, "Get", { key: Buffer.from("a") }, token);
  found.missing = await unary(rows, "Get", { key: Buffer.from("nothing") }, token);
  found.large = await unary(rows, "Put", { key: Buffer.from("large"), value: Buffer.alloc(900_000, "x") }, token);
  found.too_large = await unary(rows, "Put", { key: Buffer.from("large"), value: Buffer.alloc(1_048_577) }, token);
  const mutations = [];
  for (let number = 0; number < 2_500; ++number) {
    mutations.push({ put: { key: Buffer.from(`row/${String(number).padStart(5, "0")}`), value: Buffer.from("v") } });
  }
  found.write = await unary(rows, "Write", { mutations }, token);
  const keys = ["a", "nothing", "large"].map((key) => Buffer.from(key));
  found.batch = (await unary(rows, "BatchGet", { keys }, token)).results;
  found.count = await unary(rows, "Count", { range: { prefix: Buffer.from("row/") } }, token);
  const scan = await streamed(rows.Scan({ range: { prefix: Buffer.from("row/") }, reverse: true }, bearer(token)));
  found.scan = { code: scan.code, pages: scan.messages.length, rows: scan.messages.flatMap((page) => page.rows).length };
  found.first = String(scan.messages[0].rows[0].key);
  const pipeline = rows.Pipeline(bearer(token));
  const answers = streamed(pipeline);
  const put = (key) => ({ put: { key: Buffer.from(key), value: Buffer.from("p") } });
  pipeline.write({ id: 1, operations: [put("p"), { get: { key: Buffer.from("p") } }, { get: { key: Buffer.alloc(0) } }] });
  pipeline.write({ id: 2, operations: [{ delete: { key: Buffer.from("p") } }, { get: { key: Buffer.from("p") } }] });
  pipeline.end();
  found.pipeline = await answers;
  found.delete = await unary(rows, "Delete", { key: Buffer.from("a") }, token);
  found.empty_key = await unary(rows, "Get", { key: Buffer.alloc(0) }, token);
  found.no_token = await unary(rows, "Get", { key: Buffer.from("a") }, null);
  found.bad_token = await unary(rows, "Get", { key: Buffer.from("a") }, "no.token.atall");
  found.late = await unary(rows, "Get", { key: Buffer.from("a") }, token, { deadline: Date.now() - 1 });
  const cancelled = rows.Scan({ range: {} }, bearer(token));
  cancelled.once("data", () => cancelled.cancel());
  found.cancelled = (await streamed(cancelled)).code;
  const compressed = { "grpc.default_compression_algorithm": 2 };
  const gzip = new v1.KeyValue(input.address, credentials, compressed);
  await unary(gzip, "Put", { key: Buffer.from("gzip"), value: Buffer.alloc(50_000, "z") }, token);
  found.gzip = (await unary(gzip, "Get", { key: Buffer.from("gzip") }, token)).value.length;
  const many = Array.from({ length: 300 }, (_, n) => unary(rows, "Get", { key: Buffer.from(`row/${n}`) }, token));
  found.at_once = (await Promise.all(many)).filter((answer) => answer.found === false).length;
  gzip.close();
  rows.close();
  return found;
}

async function everythingElse() {
  const auth = connect(v1.Auth);
  const login = { user: input.user, password: input.password };
  const logged = await unary(auth, "Login", login, null);
  const found = { login: Boolean(logged.tokens), wrong: await unary(auth, "Login", { ...login, password: "no" }, null) };
  found.who = await unary(auth, "WhoAmI", {}, logged.tokens.access_token);
  auth.close();
  const namespaces = connect(v1.Namespaces);
  const name = `node-${process.pid}`;
  found.create = (await unary(namespaces, "CreateNamespace", { name }, input.guardian)).namespace.name === name;
  found.forbidden = await unary(namespaces, "CreateNamespace", { name: "never" }, logged.tokens.access_token);
  namespaces.close();
  const maintenance = connect(v1.Maintenance);
  const status = await unary(maintenance, "Status", {}, input.guardian);
  found.status = { store: status.store, version: status.version };
  maintenance.close();
  return found;
}

const plain = (_, value) => (value && value.type === "Buffer" ? Buffer.from(value.data).toString("utf8") : value);

Promise.all([keyValue(input.token), everythingElse()]).then(([rows, rest]) => {
  process.stdout.write(JSON.stringify(JSON.parse(JSON.stringify({ rows, rest }), plain)));
});
