/** A host's bandwidth over time: who shares, who leaves something over, who gets it. */
import { test } from 'tap';
import { SHARES_REVIEW_MS } from '../../../../src/base/limits.ts';
import { MiB } from '../../../../src/base/units.ts';
import type { MigrationEvent, Phase } from '../../../../src/migration/report.ts';
import { Bandwidth } from '../../../../src/migration/scheduling/bandwidth.ts';

const CAP_BPS = 100 * MiB;

/** Migrations that send as fast as they may, or want to. */
class Road {
  nowMs = 0;
  readonly granted = new Map<string, number>();
  readonly #bandwidth: Bandwidth;
  readonly #sentBytes = new Map<string, number>();
  /** The most that was granted at any moment. */
  sumMax = 0;

  constructor(capBps: number | undefined = CAP_BPS) {
    this.#bandwidth = new Bandwidth({ now: () => this.nowMs }, capBps);
  }

  join(
    id: string,
    { weight = 1, maxBps }: { weight?: number; maxBps?: number | undefined } = {},
  ): void {
    const grant = (bps: number) => {
      this.granted.set(id, bps);
      const sum = [...this.granted.values()].reduce((total, each) => total + each, 0);
      this.sumMax = Math.max(this.sumMax, sum);
    };
    this.#bandwidth.join(id, { weight, maxBps, grant });
  }

  leave(id: string): void {
    this.granted.delete(id);
    this.#bandwidth.leave(id);
  }

  phase(id: string, phase: Phase): void {
    this.#bandwidth.hear(id, { event: 'phase', migrationId: id, phase });
  }

  /** One review passes; each sends at the least of what it wants (all, when not said) and may. */
  pass(wantsBps: Readonly<Record<string, number>> = {}): void {
    this.nowMs += SHARES_REVIEW_MS;
    for (const [id, bps] of this.granted) {
      const rate = Math.min(wantsBps[id] ?? Infinity, bps);
      const sent = (this.#sentBytes.get(id) ?? 0) + (rate * SHARES_REVIEW_MS) / 1000;
      this.#sentBytes.set(id, sent);
    }
    for (const [id, sentBytes] of this.#sentBytes) {
      // One that does not move says nothing.
      if (wantsBps[id] !== 0) {
        this.#bandwidth.hear(id, { event: 'progress', sentBytes } as MigrationEvent);
      }
    }
  }

  ended(id: string): void {
    const bytesSent = this.#sentBytes.get(id) ?? 0;
    this.#sentBytes.set(id, 0);
    this.#bandwidth.hear(id, { event: 'round', bytesSent } as MigrationEvent);
  }

  get shares(): Record<string, number> {
    return Object.fromEntries([...this.granted].map(([id, bps]) => [id, Math.round(bps / MiB)]));
  }
}

void test('who comes and goes, by weight and within his own limit', (t) => {
  const road = new Road();
  road.join('a');
  t.same(road.shares, { a: 100 });
  road.join('b', { weight: 3 });
  t.same(road.shares, { a: 25, b: 75 });
  road.join('c', { maxBps: 10 * MiB });
  t.match(road.shares, { c: 10 });
  road.leave('b');
  t.same(road.shares, { a: 90, c: 10 });
  road.leave('c');
  t.same(road.shares, { a: 100 });
  road.phase('unknown', 'pre-copy');
  t.ok(road.sumMax <= CAP_BPS, 'and never more than all of it');
  t.end();
});

void test('what one leaves over is the others’, and his again as soon as he wants it', (t) => {
  const road = new Road();
  road.join('a');
  road.join('b');
  road.pass();
  t.same(road.shares, { a: 50, b: 50 }, 'all that they get they use');
  road.pass({ a: 8 * MiB });
  t.same(road.shares, { a: 10, b: 90 }, 'with some to spare');
  road.pass({ a: 8 * MiB });
  t.same(road.shares, { a: 50, b: 50 }, 'who uses all that he has may want more');
  road.pass({ a: 0 });
  t.same(road.shares, { a: 50, b: 50 }, 'it may just not have told yet');
  road.pass({ a: 0 });
  t.same(road.shares, { a: 1, b: 99 }, 'silent for long: idle');
  road.pass();
  t.same(road.shares, { a: 50, b: 50 }, 'and back');
  t.ok(road.sumMax <= CAP_BPS);
  t.end();
});

void test('a new phase begins with a full share; rounds count on', (t) => {
  const road = new Road();
  road.join('a');
  road.join('b');
  for (const _ of [1, 2]) road.pass({ a: 0 });
  t.same(road.shares, { a: 1, b: 99 });
  road.phase('a', 'stop-and-copy');
  t.same(road.shares, { a: 50, b: 50 }, 'a guest is about to stand still for it');
  road.ended('b');
  road.pass();
  t.same(road.shares, { a: 50, b: 50 });
  t.end();
});

void test('without a limit nothing is said', (t) => {
  const road = new Road(undefined);
  road.join('a');
  road.pass();
  road.leave('a');
  t.equal(road.granted.size, 0);
  t.end();
});
