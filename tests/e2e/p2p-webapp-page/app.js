// A room, private words, contacts and files: an app as one writes it for the program p2p-webapp, against the client
// that comes with it. It knows nothing of tabpeer: the test serves it with another line in place of the import.
import { connect } from './client.js';

const ROOM = 'neighbours';
const PRIVATE = 'neighbours-private';
const element = (id) => document.getElementById(id);

let client;
let contacts = new Set();
let shown;

/** Does what a button or form asks, and shows what went wrong. */
function on(id, event, work) {
  element(id).addEventListener(event, async (happened) => {
    happened.preventDefault();
    element('trouble').textContent = '';
    try {
      await work(event === 'submit' ? new FormData(happened.target) : undefined, happened);
    } catch (error) {
      element('trouble').textContent = `${error instanceof Error} ${error.message}`;
    }
  });
}

function line(list, text) {
  const item = document.createElement('li');
  item.textContent = text;
  element(list).append(item);
  return item;
}

async function join() {
  client = await connect({
    peerKey: localStorage.getItem('key') ?? undefined,
    onClose: () => (element('state').textContent = `closed, ${client.connected}`),
  });
  localStorage.setItem('key', client.peerKey);
  element('me').textContent = client.peerID;
  element('version').textContent = client.version;

  await client.start(PRIVATE, (peer, data) => {
    line('told', `${peer}: ${data.text}`);
  });
  await client.subscribe(
    ROOM,
    async (peer, data) => {
      // p2p-webapp also tells a peer what it said itself.
      if (peer !== client.peerID) line('room', `${peer}: ${data.text}`);
    },
    async (peer, joined) => {
      document.querySelector(`[data-person="${peer}"]`)?.remove();
      if (joined) line('people', peer).dataset.person = peer;
    },
  );
  element('state').textContent = client.connected ? 'here' : 'alone';
}

on('say', 'submit', async (form) => {
  const text = form.get('text');
  await client.publish(ROOM, { text });
  const people = await client.listPeers(ROOM);
  line('room', `${client.peerID}: ${text} (to ${people.filter((peer) => peer !== client.peerID).length})`);
});

on('leave', 'click', () => client.unsubscribe(ROOM));

on('tell', 'submit', async (form) => {
  const item = line('told', `to ${form.get('to')}: ${form.get('text')}`);
  // The promise tells of the delivery, and so did the function that earlier clients took.
  await client.send(form.get('to'), PRIVATE, { text: form.get('text') }, () => (item.textContent += ' ✓'));
  item.textContent += ' ✓';
});

on('deaf', 'click', () => client.stop(PRIVATE));

on('contact', 'submit', async (form, { submitter }) => {
  const peer = form.get('peer');
  if (submitter.name === 'add') {
    await client.addPeers([peer]);
    contacts.add(peer);
  } else {
    await client.removePeers([peer]);
    contacts.delete(peer);
  }
  element('contacts').replaceChildren();
  for (const contact of contacts) line('contacts', contact);
});

on('store', 'submit', async (form) => {
  const file = form.get('file');
  const content = file.size > 0 ? new Uint8Array(await file.arrayBuffer()) : form.get('text');
  const { fileCid, rootCid } = await client.storeFile(form.get('path'), content);
  await browse(client.peerID);
  const entry = document.querySelector(`[data-path="${form.get('path')}"]`);
  if (entry.dataset.cid !== fileCid || element('tree').textContent !== rootCid) throw new Error('the tree is another one');
});

on('folder', 'submit', async (form) => {
  const { fileCid, rootCid } = await client.createDirectory(form.get('path'));
  await browse(client.peerID);
  const entry = document.querySelector(`[data-path="${form.get('path')}"]`);
  if (entry.dataset.cid !== fileCid || element('tree').textContent !== rootCid) throw new Error('the tree is another one');
});

on('browse', 'submit', (form) => browse(form.get('peer') || client.peerID));

async function browse(peer) {
  shown = peer;
  const { rootCID, entries } = await client.listFiles(peer);
  element('tree').textContent = rootCID;
  element('files').replaceChildren();
  for (const [path, { type, cid, mimeType }] of Object.entries(entries)) {
    const item = line('files', `${path} ${type === 'file' ? mimeType : 'folder'} `);
    Object.assign(item.dataset, { path, cid });
    button(item, 'Open', () => client.getFile(cid, peer === client.peerID ? undefined : peer).then(open));
    button(item, 'Find', () => client.getFile(cid).then(open));
    if (peer === client.peerID) button(item, 'Remove', () => client.removeFile(path).then(() => browse(shown)));
  }
}

function button(item, label, work) {
  const made = document.createElement('button');
  made.textContent = label;
  made.id = `${label}:${item.dataset.path}`;
  item.append(made);
  on(made.id, 'click', work);
}

async function open(found) {
  if (found.type === 'directory') {
    const names = Object.entries(found.entries).map(([name, cid]) => `${name} ${cid}`);
    element('opened').textContent = `folder: ${names.join(', ')}`;
    return;
  }
  const { mimeType, content } = found;
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const text = mimeType.startsWith('text/') ? new TextDecoder().decode(bytes) : await digest(bytes);
  element('opened').textContent = `${mimeType}: ${text}`;
  // What it keeps for the next visit.
  localStorage.setItem('last', JSON.stringify({ ...found }));
}

async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

on('close', 'click', () => client.close());

join().catch((error) => (element('trouble').textContent = error.message));
