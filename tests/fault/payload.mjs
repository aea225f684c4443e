// What honest clients send: every message differs from every other, and both ends of the comparison
// can make it anew from the client's name and its number.
import { randomBytes } from 'node:crypto';

const noise = randomBytes(1 << 20);
const letters = noise.toString('base64');

// A random number generator whose seed is printed, so that a run can be had again.
export class Random {
  #state;
  constructor(seed) { this.#state = seed >>> 0; }

  // mulberry32: 0 to 1.
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  between(low, high) { return low + Math.floor(this.next() * (high - low + 1)); }
  one(list) { return list[this.between(0, list.length - 1)]; }
}

// Mostly small, some of a few kilobytes, few large.
export function size(random) {
  const dice = random.next();
  if (dice < 0.8) return random.between(0, 200);
  if (dice < 0.96) return random.between(201, 8_000);
  return random.between(8_001, 150_000);
}

// Message `number` of a client: a string or a Buffer of about `length` bytes.
export function message(name, number, length, text) {
  const head = `${name}:${number}:`;
  const start = (number * 7919) % (noise.length >> 1);
  if (text) return `${head}发送数据 ${letters.slice(start, start + length)}`;
  return Buffer.concat([Buffer.from(head), noise.subarray(start, start + length)]);
}
