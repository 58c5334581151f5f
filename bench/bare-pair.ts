/** Two processes with a bare socket between them (bare-socket.ts), kept for many runs. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Answer, Asked } from './bare-socket.ts';

const PROGRAM = fileURLToPath(new URL('./bare-socket.ts', import.meta.url));

export class BarePair implements Disposable {
  readonly #sender: ChildProcess;
  readonly #receiver: ChildProcess;
  readonly #port: number;

  private constructor(sender: ChildProcess, receiver: ChildProcess, port: number) {
    this.#sender = sender;
    this.#receiver = receiver;
    this.#port = port;
  }

  static async start(form: 'tcp' | 'tls', bytes: number, certs: string): Promise<BarePair> {
    const begin = () => fork(PROGRAM, [form, String(bytes), certs]);
    const receiver = begin();
    const answer = await ask(receiver, { do: 'listen' });
    return new BarePair(begin(), receiver, 'port' in answer ? answer.port : 0);
  }

  /** Moves the bytes once; milliseconds until the last one had arrived. */
  async run(): Promise<number> {
    const answer = await ask(this.#sender, { do: 'send', port: this.#port });
    return 'ms' in answer ? answer.ms : Number.NaN;
  }

  [Symbol.dispose](): void {
    this.#sender.disconnect();
    this.#receiver.disconnect();
  }
}

async function ask(child: ChildProcess, asked: Asked): Promise<Answer> {
  const over = new AbortController();
  const { signal } = over;
  const answered = once(child, 'message', { signal }) as Promise<[Answer]>;
  const ended = once(child, 'exit', { signal }).then(([status]) => {
    throw new Error(`a bare socket ended with ${String(status)}`);
  });
  ended.catch(() => undefined);
  child.send(asked);
  try {
    const [answer] = await Promise.race([answered, ended]);
    return answer;
  } finally {
    over.abort();
  }
}
