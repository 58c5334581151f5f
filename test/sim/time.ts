/** Virtual time: what is to happen waits in a heap; nothing happens between two things that do. */
import type { Clock, Timer } from '../../src/base/ports.ts';

/** Whose thing it is: of one that died nothing happens any more. */
export interface Owner {
  readonly isAlive: boolean;
  /** Until then it does nothing: it waits for its disk. */
  readonly busyUntilMs: number;
}

/** Nobody's in particular: it happens whoever dies. */
export const ALWAYS: Owner = { isAlive: true, busyUntilMs: 0 };

class Task implements Timer {
  atMs: number;
  order: number;
  readonly owner: Owner;
  readonly run: () => void;
  isCancelled = false;

  constructor(atMs: number, order: number, owner: Owner, run: () => void) {
    this.atMs = atMs;
    this.order = order;
    this.owner = owner;
    this.run = run;
  }

  cancel(): void {
    this.isCancelled = true;
  }

  isBefore(other: Task): boolean {
    return this.atMs < other.atMs || (this.atMs === other.atMs && this.order < other.order);
  }
}

export class Time {
  nowMs = 0;
  readonly #heap: Task[] = [];
  #order = 0;

  /** What is planned for the same instant happens in the order in which it was planned. */
  after(delayMs: number, owner: Owner, run: () => void): Timer {
    const task = new Task(this.nowMs + delayMs, this.#order, owner, run);
    this.#order += 1;
    this.#push(task);
    return task;
  }

  clockOf(owner: Owner): Clock {
    return {
      now: () => this.nowMs,
      wall: () => this.nowMs,
      after: (delayMs, fire) => this.after(delayMs, owner, fire),
    };
  }

  /** Lets the next thing happen; false when there is none. */
  step(): boolean {
    for (let task = this.#pop(); task !== undefined; task = this.#pop()) {
      if (task.isCancelled || !task.owner.isAlive) continue;
      if (task.owner.busyUntilMs > task.atMs) {
        this.#postpone(task);
        continue;
      }
      this.nowMs = task.atMs;
      task.run();
      return true;
    }
    return false;
  }

  /** It comes after what its owner is busy with. */
  #postpone(task: Task): void {
    task.atMs = task.owner.busyUntilMs;
    task.order = this.#order;
    this.#order += 1;
    this.#push(task);
  }

  #push(task: Task): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(task);
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !task.isBefore(parent)) break;
      heap[at] = parent;
      at = above;
    }
    heap[at] = task;
  }

  #pop(): Task | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      let child = heap[below];
      if (child === undefined) break;
      const sibling = heap[below + 1];
      if (sibling?.isBefore(child) === true) {
        child = sibling;
        below += 1;
      }
      if (!child.isBefore(last)) break;
      heap[at] = child;
      at = below;
    }
    heap[at] = last;
    return first;
  }
}
