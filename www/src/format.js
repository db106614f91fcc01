// Turns values into what a person reads. Names come from other peers: they are only ever shown as text.

const UNITS = ['bytes', 'KB', 'MB', 'GB', 'TB'];

/** 5242880 → "5.2 MB". */
export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Long ids keep their start and end, the parts that people compare. */
export function short(id, head = 10, tail = 6) {
  return id.length <= head + tail + 1 ? id : `${id.slice(0, head)}…${id.slice(-tail)}`;
}

// Control characters, and those that turn the direction of text and so disguise an ending.
const DISGUISE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A line of somebody's making as it may be shown between others. */
export function undisguised(text) {
  return text.replace(DISGUISE, '\ufffd');
}

/** At most so much of a text (in UTF-16 units, as `maxlength` counts), without half a character at its end. */
export function cut(text, max) {
  return text.length <= max ? text : text.slice(0, max).replace(/[\ud800-\udbff]$/, '');
}

/** A name as it may be shown in a list or offered to the file system. */
export function safeName(path) {
  const last = path.split('/').filter((part) => part !== '' && part !== '.' && part !== '..').pop() ?? '';
  return cut(undisguised(last), 255) || 'file';
}

/** "image/png" → "PNG image"; what is unknown stays as it is. */
export function kind(mimeType) {
  const [type, rest = ''] = (mimeType ?? '').split(';')[0].split('/');
  const name = rest.replace(/^x-|\+xml$/g, '').toUpperCase().slice(0, 24);
  switch (type) {
    case 'image':
    case 'video':
    case 'audio':
      return `${name} ${type}`;
    case 'text':
      return name === 'PLAIN' ? 'text' : `${name} text`;
    default:
      return name === 'OCTET-STREAM' || name === '' ? 'data' : name;
  }
}
