'use strict';
// The browser's end of a WebSocket, made visible: its state, its queue and its four events.

const texts = {
  en: {
    tagline: 'A WebSocket, seen from the browser’s end', status: 'Status',
    bytesWaiting: 'bytes waiting in the browser', largest: 'largest', agreed: 'Agreed',
    received: 'received', sent: 'sent', connection: 'Connection', url: 'URL',
    subprotocols: 'Subprotocols', commas: 'separated by commas; may be empty',
    connect: 'Connect', close: 'Close', textMessage: 'Text message', send: 'Send',
    binaryMessage: 'Binary message',
    binaryHint: 'What comes back is compared with what was sent, byte by byte.',
    randomBytes: 'Random bytes', orFile: 'or a file', sendBinary: 'Send binary',
    sendLarge: 'Send 8 MB',
    largeHint: '8 MB go out as 128 messages of 64 KiB: watch bufferedAmount rise and drain.',
    events: 'Events', clear: 'Clear',
    empty: 'onopen, onmessage, onclose and onerror appear here.',
    language: '中文', sentWord: 'sent', noteWord: 'note',
    none: 'none', bytes: 'bytes',
    same: 'the echo is the same, byte for byte', differs: 'the echo DIFFERS from what was sent',
    unasked: 'not an echo of what was sent',
    noDetail: 'browsers tell no detail; the close event that follows has the code',
    largeBack: (ms) => `all 128 messages came back, byte for byte, after ${ms} ms`,
    largeDiffers: (count) => `${count} of the 128 echoes DIFFER from what was sent`,
  },
  zh: {
    tagline: '从浏览器这一端看 WebSocket', status: '状态',
    bytesWaiting: '浏览器中等待发送的字节', largest: '最大', agreed: '协商的',
    received: '收到', sent: '发出', connection: '连接', url: '地址（URL）',
    subprotocols: '子协议', commas: '用逗号分隔，可以为空',
    connect: '连接', close: '关闭', textMessage: '文本消息', send: '发送',
    binaryMessage: '二进制消息', binaryHint: '收到的回显会与发出的数据逐字节比较。',
    randomBytes: '随机字节数', orFile: '或选择文件', sendBinary: '发送二进制',
    sendLarge: '发送 8 MB',
    largeHint: '8 MB 分成 128 条 64 KiB 的消息发出：可以看到 bufferedAmount 上升再回落。',
    events: '事件', clear: '清空',
    empty: 'onopen、onmessage、onclose、onerror 会显示在这里。',
    language: 'English', sentWord: '发送', noteWord: '说明',
    none: '无', bytes: '字节',
    same: '回显与发出的数据逐字节相同', differs: '回显与发出的数据不同',
    unasked: '不是所发数据的回显',
    noDetail: '浏览器不透露细节；随后的 onclose 事件带有关闭码',
    largeBack: (ms) => `128 条消息全部逐字节原样返回，用时 ${ms} 毫秒`,
    largeDiffers: (count) => `128 条回显中有 ${count} 条与发出的数据不同`,
  },
};

const stateNames = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'];
const logLinesMax = 500;
const largeMessages = 128;
const largeMessageBytes = 64 * 1024;

const $ = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString('en-US');

let socket = null;
let language = (navigator.language || 'en').toLowerCase().startsWith('zh') ? 'zh' : 'en';
let shownTexts = texts[language];
let bufferedPeak = 0;
let barScale = 1;  // the amount that fills the bar
let sentBytes = 0;
let receivedBytes = 0;
let expected = [];  // { bytes, ofLarge }: binary messages whose echo has not come yet, oldest first
let large = null;   // the 8 MB that are on their way: { left, differing, started }

// ---------------------------------------------------------------------------- language

function showLanguage() {
  shownTexts = texts[language];
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  for (const element of document.querySelectorAll('[data-text]')) {
    element.textContent = shownTexts[element.dataset.text];
  }
  $('language').textContent = shownTexts.language;
  $('language').lang = language === 'zh' ? 'en' : 'zh-CN';
}

$('language').addEventListener('click', () => {
  language = language === 'zh' ? 'en' : 'zh';
  showLanguage();
});

// ---------------------------------------------------------------------------- the log

function timeOfDay() {
  const now = new Date();
  const two = (number) => String(number).padStart(2, '0');
  const milliseconds = String(now.getMilliseconds()).padStart(3, '0');
  return `${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}.${milliseconds}`;
}

// `kind` is a word for the style sheet and for tests: onopen, onmessage, onclose, onerror, sent, note.
function log(kind, text, { label = kind, failed = false } = {}) {
  const list = $('log');
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const line = document.createElement('li');
  line.className = failed ? `${kind} failed` : kind;
  line.dataset.event = kind;
  const time = document.createElement('time');
  time.textContent = timeOfDay();
  const name = document.createElement('b');
  name.textContent = label;
  const detail = document.createElement('span');
  detail.textContent = text;
  line.append(time, name, detail);
  list.append(line);
  while (list.children.length > logLinesMax) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

const logSent = (text) => log('sent', text, { label: shownTexts.sentWord });
const logNote = (text, failed) => log('note', text, { label: shownTexts.noteWord, failed });

$('clear').addEventListener('click', () => $('log').replaceChildren());

// ---------------------------------------------------------------------------- live figures

function showState() {
  const state = socket ? socket.readyState : null;
  const shown = $('ready-state');
  const text = state === null ? '–' : `${state} ${stateNames[state]}`;
  if (shown.textContent === text) return;
  shown.textContent = text;
  shown.dataset.state = state === null ? 'none' : state;
  document.querySelectorAll('.states li').forEach((item, index) => {
    item.classList.toggle('on', state !== null && index <= state);
  });
  const open = state === WebSocket.OPEN;
  $('connect').disabled = state !== null && state !== WebSocket.CLOSED;
  $('close').disabled = state === null || state >= WebSocket.CLOSING;
  for (const id of ['send', 'send-binary', 'send-large']) $(id).disabled = !open;
}

// Touches the document only if something changed: this runs sixty times a second.
function show(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// The bar is full at the largest amount of the present rise, so that small and large ones both show.
function showBuffered() {
  const amount = socket ? socket.bufferedAmount : 0;
  bufferedPeak = Math.max(bufferedPeak, amount);
  barScale = amount === 0 ? 1 : Math.max(barScale, amount);
  show('buffered-amount', count(amount));
  $('buffered-bar').style.width = `${(100 * amount) / barScale}%`;
  show('buffered-peak', count(bufferedPeak));
  show('sent', count(sentBytes));
  show('received', count(receivedBytes));
}

function showAll() {
  showState();
  showBuffered();
}

function everyFrame() {
  showAll();
  requestAnimationFrame(everyFrame);
}

// ---------------------------------------------------------------------------- the socket

function defaultUrl() {
  if (location.protocol === 'http:') return `ws://${location.host}/echo`;
  if (location.protocol === 'https:') return `wss://${location.host}/echo`;
  return 'ws://localhost:9998/echo';
}

function connect() {
  const url = $('url').value.trim();
  const protocols = $('protocols').value.split(',').map((name) => name.trim()).filter(Boolean);
  try {
    socket = new WebSocket(url, protocols);
  } catch (error) {
    logNote(`new WebSocket: ${error.message}`, true);
    return;
  }
  logNote(`new WebSocket("${url}"${protocols.length ? `, ${JSON.stringify(protocols)}` : ''})`);
  socket.binaryType = 'arraybuffer';
  socket.onopen = onOpen;
  socket.onmessage = onMessage;
  socket.onclose = onClose;
  socket.onerror = onError;
  bufferedPeak = sentBytes = receivedBytes = 0;
  expected = [];
  large = null;
  $('agreed-protocol').textContent = '–';
  showAll();
}

function onOpen() {
  const protocol = socket.protocol || shownTexts.none;
  $('agreed-protocol').textContent = protocol;
  log('onopen', `protocol: ${protocol}, extensions: ${socket.extensions || shownTexts.none}`);
  showAll();
}

function onMessage(event) {
  if (typeof event.data === 'string') {
    receivedBytes += new TextEncoder().encode(event.data).length;
    log('onmessage', event.data);
    return;
  }
  receivedBytes += event.data.byteLength;
  const echo = new Uint8Array(event.data);
  const sent = expected.shift();
  const same = sent !== undefined && sameBytes(sent.bytes, echo);
  if (sent !== undefined && sent.ofLarge) {
    countLarge(same);
    return;
  }
  let verdict = same ? shownTexts.same : shownTexts.differs;
  if (sent === undefined) verdict = shownTexts.unasked;
  log('onmessage', `${count(echo.length)} ${shownTexts.bytes}: ${hex(echo)}\n${verdict}`,
      { failed: !same });
}

function onClose(event) {
  const reason = event.reason ? JSON.stringify(event.reason) : shownTexts.none;
  log('onclose', `code: ${event.code}, reason: ${reason}, wasClean: ${event.wasClean}`);
  expected = [];
  large = null;
  showAll();
}

function onError() {
  log('onerror', shownTexts.noDetail);
  showAll();
}

// ---------------------------------------------------------------------------- sending

function sendText(text) {
  socket.send(text);
  sentBytes += new TextEncoder().encode(text).length;
  logSent(text);
  showAll();
}

function sendBytes(bytes, { ofLarge = false } = {}) {
  expected.push({ bytes, ofLarge });
  socket.send(bytes);
  sentBytes += bytes.length;
}

async function sendBinary() {
  const file = $('binary-file').files[0];
  const bytes = file ? new Uint8Array(await file.arrayBuffer())
                     : randomBytes(Number($('binary-size').value));
  if (socket.readyState !== WebSocket.OPEN) return;
  sendBytes(bytes);
  logSent(`${count(bytes.length)} ${shownTexts.bytes}: ${hex(bytes)}`);
  showAll();
}

// Everything at once, without waiting: this is what bufferedAmount is there to show.
function sendLarge() {
  if (large !== null) return;
  large = { left: largeMessages, differing: 0, started: performance.now() };
  for (let index = 0; index < largeMessages; ++index) {
    sendBytes(randomBytes(largeMessageBytes), { ofLarge: true });
  }
  logSent(`${largeMessages} × ${count(largeMessageBytes)} ${shownTexts.bytes}, ` +
          `bufferedAmount: ${count(socket.bufferedAmount)}`);
  showAll();
}

function countLarge(same) {
  if (!same) large.differing += 1;
  large.left -= 1;
  if (large.left > 0) return;
  const { differing, started } = large;
  large = null;
  const text = differing === 0 ? shownTexts.largeBack(Math.round(performance.now() - started))
                               : shownTexts.largeDiffers(differing);
  log('onmessage', text, { failed: differing > 0 });
}

function randomBytes(size) {
  const bytes = new Uint8Array(size);
  const onceMax = 65536;  // crypto.getRandomValues gives no more at a time
  for (let begin = 0; begin < size; begin += onceMax) {
    crypto.getRandomValues(bytes.subarray(begin, begin + onceMax));
  }
  return bytes;
}

function sameBytes(one, other) {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

function hex(bytes) {
  const first = Array.from(bytes.subarray(0, 12), (byte) => byte.toString(16).padStart(2, '0'));
  return first.join(' ') + (bytes.length > 12 ? ' …' : '');
}

// ---------------------------------------------------------------------------- controls

function onSubmit(form, action) {
  $(form).addEventListener('submit', (event) => {
    event.preventDefault();
    action();
  });
}

onSubmit('connection', connect);
onSubmit('text', () => sendText($('message').value));
onSubmit('binary', sendBinary);
$('send-large').addEventListener('click', sendLarge);

// close() itself says what codes and reasons it takes.
$('close').addEventListener('click', () => {
  const code = Number($('close-code').value);
  const reason = $('close-reason').value;
  try {
    socket.close(code, reason);
    logNote(`close(${code}, ${JSON.stringify(reason)})`);
  } catch (error) {
    logNote(`close(${code}): ${error.message}`, true);
  }
  showAll();
});

// Enter sends, Shift+Enter begins a new line; not while an input method is composing.
$('message').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!$('send').disabled) $('text').requestSubmit();
});

$('url').value = defaultUrl();
for (const id of ['close', 'send', 'send-binary', 'send-large']) $(id).disabled = true;
showLanguage();
everyFrame();
