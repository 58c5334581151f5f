/**
 * A guest for QEMU, made here: Debian's cloud kernel (fetched by scripts/setup-debian.sh) and an initramfs
 * with one static program in it, init.c. Built once for each version of that program.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';

const KERNEL = '/var/cache/migd/guest-kernel/vmlinuz';
const SOURCE = path.join(import.meta.dirname, 'init.c');
const CACHE = path.resolve(import.meta.dirname, '../../node_modules/.cache/migd-guest');

export interface GuestImage {
  readonly kernel: string;
  readonly initrd: string;
}

/** What init.c does. Sizes in MiB; what is left out is 0. */
export interface Filling {
  readonly zero?: number;
  /** The same content in every page. */
  readonly duplicate?: number;
  /** About five to one. */
  readonly compressible?: number;
  readonly incompressible?: number;
  /** Writes go to this much from the start of the compressible and incompressible part; all of it by default. */
  readonly hot?: number;
  /** Pages written a second, spread evenly over what is hot. */
  readonly rate?: number;
  /** 1: extends PCR 12 of the vTPM once and reads it for every line. */
  readonly pcr?: 0 | 1;
}

/** A line of the guest's console. */
export interface GuestLine {
  readonly seq: number;
  readonly bad: number;
  readonly writes: number;
  readonly checked: number;
  readonly pcr: string | null;
}

/** Why tests with a guest cannot run here; `false` when they can, or must. */
export function guestToolsMissing(): string | false {
  if (process.env['MIGD_REQUIRE_ALL'] === '1') return false;
  const tools = ['qemu-system-x86_64', 'swtpm', 'gcc', 'cpio'];
  const lacking = tools.filter((tool) => spawnSync(tool, ['--version']).error !== undefined);
  if (!existsSync(KERNEL)) lacking.push('the guest kernel');
  return lacking.length > 0 && `npm run setup:debian; missing: ${lacking.join(', ')}`;
}

/** Throws when a tool is missing. May be called by several processes at once. */
export function guestImage(): GuestImage {
  const digest = createHash('sha256').update(readFileSync(SOURCE)).digest('hex').slice(0, 16);
  const initrd = path.join(CACHE, `initrd-${digest}`);
  if (!existsSync(initrd)) {
    mkdirSync(CACHE, { recursive: true });
    const scratch = mkdtempSync(path.join(CACHE, 'build-'));
    try {
      execFileSync('gcc', ['-static', '-O2', '-Wall', '-o', path.join(scratch, 'init'), SOURCE]);
      const archive = execFileSync(
        'cpio',
        ['--create', '--format=newc', '--quiet', '-F', 'initrd'],
        {
          cwd: scratch,
          input: 'init\n',
        },
      );
      if (archive.length > 0) throw new Error('cpio wrote elsewhere');
      renameSync(path.join(scratch, 'initrd'), initrd);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  }
  return { kernel: KERNEL, initrd };
}

/** The kernel's command line: the console on the first serial port, a panic ends QEMU (-no-reboot). */
export const guestCommandLine = (filling: Filling): string =>
  [
    'console=ttyS0 quiet panic=-1 tsc=reliable',
    ...Object.entries(filling).map(([name, value]) => `fill.${name}=${value}`),
  ].join(' ');

/** The lines of a console's text that are whole, in order. */
export const guestLines = (console: string): readonly GuestLine[] =>
  [
    ...console.matchAll(
      /^seq=(\d+) bad=(\d+) writes=(\d+) checked=(\d+)(?: pcr=([\da-f]{64}))?\r?\n/gm,
    ),
  ].map(([, seq, bad, writes, checked, pcr = null]) => ({
    seq: Number(seq),
    bad: Number(bad),
    writes: Number(writes),
    checked: Number(checked),
    pcr,
  }));
