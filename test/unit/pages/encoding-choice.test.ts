/** Which way pages go on simulated links: never slower than plain where the link is fast, packed where it is slow. */
import { test } from 'tap';
import { PAGE_BYTES } from '../../../src/base/units.ts';
import { EncodingChoice, type Way } from '../../../src/pages/encoding-choice.ts';

const PAGES = 128;
const MBps = 1e6 / 1000;

interface World {
  /** Bytes a ms. */
  linkBpms: number;
  /** Of the sender for itself: to seal and to hand over. */
  readonly sendBpms?: number;
  readonly socketBytes?: number;
  readonly packingMs: number;
  bytesShare: number;
  /** What the peer takes to unpack a batch. */
  readonly unpackingMs?: number;
  /** Every so many batches it takes so much longer. */
  readonly hiccup?: { readonly every: number; readonly ms: number };
}

/** A sender with a socket's buffer before a link. */
class Link {
  readonly choice = new EncodingChoice();
  readonly world: World;
  now = 0;
  pages = 0;
  packedPages = 0;
  /** When the link will have carried all that was handed over, and the peer taken it. */
  #idleAt = 0;
  #batches = 0;

  constructor(world: World) {
    this.world = world;
  }

  /** Sends for so long; returns pages a ms. */
  run(ms: number, forced?: Way): number {
    const [from, before] = [this.now, this.pages];
    while (this.now < from + ms) this.#batch(forced ?? this.choice.next(this.now));
    return (this.pages - before) / (this.now - from);
  }

  /** It was a limit that held back, before the socket: that is empty. */
  lift(linkBpms: number): void {
    this.world.linkBpms = linkBpms;
    this.#idleAt = this.now;
    this.choice.forget();
  }

  #batch(way: Way): void {
    const { sendBpms = 2e6, socketBytes = 4e6, packingMs, unpackingMs = 0, hiccup } = this.world;
    const beganAt = this.now;
    const plainBytes = PAGES * PAGE_BYTES;
    const isPacked = way === 'packed';
    const bytes = isPacked ? plainBytes * this.world.bytesShare : plainBytes;
    if (isPacked) this.now += packingMs;
    this.#batches += 1;
    if (hiccup !== undefined && this.#batches % hiccup.every === 0) this.now += hiccup.ms;
    this.now += bytes / sendBpms;
    const linkMs = Math.max(bytes / this.world.linkBpms, isPacked ? unpackingMs : 0);
    this.#idleAt = Math.max(this.#idleAt, this.now) + linkMs;
    this.now = Math.max(this.now, this.#idleAt - socketBytes / this.world.linkBpms);
    this.pages += PAGES;
    if (isPacked) this.packedPages += PAGES;
    this.choice.sent(this.now, {
      way,
      pages: PAGES,
      bytes,
      plainBytes,
      packingMs: isPacked ? packingMs : 0,
      totalMs: this.now - beganAt,
    });
  }
}

/** What `world` carries when all goes one way, and when it is chosen: pages a ms. */
function compare(world: World, ms = 60_000) {
  const [plain, packed] = [new Link({ ...world }), new Link({ ...world })];
  return {
    plain: plain.run(ms, 'plain'),
    packed: packed.run(ms, 'packed'),
    chosen: new Link({ ...world }).run(ms),
  };
}

// Figures of one core: a batch of noise takes 0.5 ms to pack, text 1.0, what has changed a little 0.5.
const NOISE = { packingMs: 0.5, bytesShare: 1 };
const TEXT = { packingMs: 1, bytesShare: 0.4 };
const CHANGED = { packingMs: 0.5, bytesShare: 0.01 };

void test('on a fast link nothing is lost', async (t) => {
  for (const content of [NOISE, TEXT]) {
    for (const linkBpms of [1500 * MBps, 3000 * MBps]) {
      const { plain, chosen } = compare({ ...content, linkBpms }, 10_000);
      t.ok(chosen >= 0.98 * plain, `${chosen} of ${plain}`);
    }
  }
  const short = compare({ ...NOISE, linkBpms: 1500 * MBps }, 500);
  t.ok(short.chosen >= 0.98 * short.plain, 'nor in a short while');
  const slowPeer = compare({ ...CHANGED, unpackingMs: 2, linkBpms: 1500 * MBps }, 10_000);
  t.ok(slowPeer.chosen >= 0.95 * slowPeer.plain, 'nor where the peer takes long to unpack');
});

void test('on a slow link what is packed goes packed', async (t) => {
  for (const linkBpms of [12.5 * MBps, 125 * MBps]) {
    for (const content of [TEXT, CHANGED]) {
      const { packed, chosen } = compare({ ...content, linkBpms });
      t.ok(chosen >= 0.9 * packed, `${chosen} of ${packed}`);
    }
    const { plain, chosen } = compare({ ...NOISE, linkBpms });
    t.ok(chosen >= 0.99 * plain, 'what cannot be packed loses nothing');
  }
});

void test('a processor that would wait anyway packs whatever it saves', async (t) => {
  const link = new Link({ ...NOISE, linkBpms: 125 * MBps });
  link.run(5000);
  const before = link.packedPages;
  link.world.bytesShare = 0.05;
  const rate = link.run(5000);
  t.ok(link.packedPages > before);
  t.ok(
    rate > 5 * ((125 * MBps) / PAGE_BYTES),
    'what turns out to have changed little is found at once',
  );
});

void test('a hiccup changes nothing', async (t) => {
  const hiccup = { every: 2000, ms: 40 };
  const { plain, chosen } = compare({ ...TEXT, linkBpms: 1500 * MBps, hiccup }, 20_000);
  t.ok(chosen >= 0.97 * plain, `${chosen} of ${plain}`);
});

void test('a link that changes is followed', async (t) => {
  const link = new Link({ ...TEXT, linkBpms: 125 * MBps });
  link.run(10_000);
  t.equal(link.choice.next(link.now), 'packed');
  link.world.linkBpms = 2500 * MBps;
  link.run(30_000);
  const fast = link.run(20_000);
  t.ok(fast >= 0.9 * ((2000 * MBps) / PAGE_BYTES), `faster: ${fast}`);
  link.world.linkBpms = 12.5 * MBps;
  link.run(10_000);
  const slow = link.run(20_000);
  t.ok(slow >= 0.85 * ((12.5 * MBps) / 0.4 / PAGE_BYTES), `slower: ${slow}`);
});

void test('a limit that is lifted is forgotten with what was measured under it', async (t) => {
  const link = new Link({ ...TEXT, linkBpms: 10 * MBps });
  link.run(5000);
  t.equal(link.choice.next(link.now), 'packed');
  link.lift(3000 * MBps);
  const rate = link.run(1000);
  t.ok(rate >= 0.95 * ((2000 * MBps) / PAGE_BYTES), `${rate}`);
});

void test('pages of zeros say nothing', async (t) => {
  const choice = new EncodingChoice();
  const batch = {
    way: 'plain',
    pages: 0,
    bytes: 20,
    plainBytes: 0,
    packingMs: 0,
    totalMs: 1000,
  } as const;
  for (let now = 0; now < 10_000; now += 1000) choice.sent(now, batch);
  t.equal(choice.next(10_000), 'plain');
});
