// One Jami daemon (its Node.js add-on) behind a UNIX socket that speaks JSON lines.
//
//   node daemon.js ADDON SOCKET EVENTLOG
//
//   to it    {"id":1,"call":"getConversations","args":["ACCOUNT"]}   any function of the add-on
//   from it  {"id":1,"ok":…} or {"id":1,"error":"…"};  {"signal":"conversationReady","args":{…}}
//
// The add-on's containers (StringMap, VectMap, …) become plain JSON and back.
'use strict';
const fs = require('fs');
const net = require('net');

const [addonPath, socketPath, eventLog] = process.argv.slice(2);
const jami = require(addonPath);

// What a callback hands over, by position.
const conversation = ['account_id', 'conversation_id'];
const signals = {
  AccountsChanged: [],
  RegistrationStateChanged: ['account', 'state', 'code', 'detail'],
  VolatileDetailsChanged: ['account', 'details'],
  AccountMessageStatusChanged: ['account', 'message_id', 'peer', 'state'],
  ComposingStatusChanged: ['account', 'conversation_id', 'from', 'status'],
  ContactAdded: ['account', 'uri', 'confirmed'],
  ContactRemoved: ['account', 'uri', 'banned'],
  IncomingTrustRequest: ['account', 'conversation_id', 'from', 'payload', 'received'],
  KnownDevicesChanged: ['account', 'devices'],
  ProfileReceived: ['account', 'from', 'path'],
  NewBuddyNotification: ['account', 'uri', 'status', 'line'],
  SwarmLoaded: ['request', ...conversation, 'messages'],
  SwarmMessageReceived: [...conversation, 'message'],
  SwarmMessageUpdated: [...conversation, 'message'],
  ReactionAdded: [...conversation, 'message_id', 'reaction'],
  ReactionRemoved: [...conversation, 'message_id', 'reaction_id'],
  ConversationProfileUpdated: [...conversation, 'profile'],
  ConversationRequestReceived: [...conversation, 'metadata'],
  ConversationRequestDeclined: conversation,
  ConversationReady: conversation,
  ConversationRemoved: conversation,
  ConversationMemberEvent: [...conversation, 'member_uri', 'event'],
  OnConversationError: [...conversation, 'code', 'what'],
};

// An empty list says nothing about the container it should become.
const emptyListOf = { sendTrustRequest: 'Blob', placeCallWithMedia: 'VectMap', acceptWithMedia: 'VectMap' };

function container(type, items) {
  const c = new jami[type]();
  for (const item of items) c.add(item);
  return c;
}

function toAddon(value, call) {
  if (Array.isArray(value)) {
    if (value.length === 0) return new jami[emptyListOf[call] || 'StringVect']();
    switch (typeof value[0]) {
      case 'string': return container('StringVect', value);
      case 'number': return container(emptyListOf[call] === 'Blob' ? 'Blob' : 'UintVect', value);
      default: return container('VectMap', value.map(v => toAddon(v, call)));
    }
  }
  if (value !== null && typeof value === 'object') {
    const map = new jami.StringMap();
    for (const [k, v] of Object.entries(value)) map.set(k, String(v));
    return map;
  }
  return value;
}

function fromAddon(value) {
  if (typeof value === 'bigint') return Number(value);
  if (value === undefined) return null;
  if (value === null || typeof value !== 'object') return value;
  if (typeof value.has_key === 'function') {
    const keys = value.keys();
    return Object.fromEntries(Array.from({ length: keys.size() }, (_, i) => [keys.get(i), value.get(keys.get(i))]));
  }
  if (typeof value.get === 'function' && typeof value.size === 'function') {
    return Array.from({ length: value.size() }, (_, i) => fromAddon(value.get(i)));
  }
  return value;
}

const clients = new Set();
const log = fs.createWriteStream(eventLog, { flags: 'a' });

// Callbacks run while the add-on holds its lock: nothing in here may call it.
const callbacks = {};
for (const [name, names] of Object.entries(signals)) {
  callbacks[name] = (...values) => {
    const args = Object.fromEntries(values.map((v, i) => [names[i] || `arg${i}`, v]));
    const line = JSON.stringify({ signal: name[0].toLowerCase() + name.slice(1), at: Date.now(), args },
      (_, v) => (typeof v === 'bigint' ? Number(v) : v)) + '\n';
    log.write(line);
    for (const client of clients) client.write(line);
  };
}
// 1 debug | 2 log to the console. Who measures wants neither.
jami.init(callbacks, { flags: Number(process.env.STARLING_JAMI_FLAGS ?? 3) });

function answer(line) {
  let request = {};
  try {
    request = JSON.parse(line);
    if (typeof jami[request.call] !== 'function') throw new Error(`no function ${request.call}`);
    const args = (request.args || []).map(a => toAddon(a, request.call));
    return { id: request.id, ok: fromAddon(jami[request.call](...args)) };
  } catch (error) {
    return { id: request.id, error: String(error && error.message || error) };
  }
}

fs.rmSync(socketPath, { force: true });
net.createServer(client => {
  clients.add(client);
  client.setEncoding('utf8');
  let rest = '';
  client.on('data', chunk => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    for (const line of lines) client.write(JSON.stringify(answer(line)) + '\n');
  });
  client.on('error', () => {});
  client.on('close', () => clients.delete(client));
}).listen(socketPath);

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    try { jami.fini(); } finally { process.exit(0); }
  });
}
