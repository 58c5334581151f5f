/**
 * The rules of style that a program can check: each looks at the path and the text of one file and
 * returns what is wrong with it. Words are spelt with a class of one letter (`TOD[O]`) so that this
 * file keeps its own rules.
 */
import path from 'node:path';
import { importsOf } from './imports.ts';

const LINES_MAX = 500;
const BANNED_NAMES = new Set(['utils', 'util', 'helpers', 'helper', 'manager', 'misc', 'common']);
const BANNED_WORDS =
  /\b(?:TOD[O]|FIXM[E]|XX[X])\b|(?:eslin[t]|oxlin[t])-disable|@ts-(?:ignor[e]|expect-erro[r]|nochec[k])/g;
const ESCAPE = /\bas an[y]\b/g;
const MACHINE_PATHS = /\/wor[k]\/|\.librar[y]\b|\bshared\/desig[n]\b|\/hom[e]\//g;
const IMPURE =
  /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\bset(?:Timeout|Interval|Immediate)\b|\bperformance\.|\bprocess\.|\bconsole\.|\bcrypto\.|\bfetch\(/g;
const HEADER = /^(?:#!.*\n)?\/\*\*?\s/;

const all = (pattern: RegExp, text: string): readonly string[] => text.match(pattern) ?? [];

/** Comments may speak of what code may not do. */
const withoutComments = (text: string): string =>
  text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/(^|\s)\/\/.*$/gm, '');

export function lengthFaults(text: string): readonly string[] {
  const lines = text.trimEnd().split('\n').length;
  return lines > LINES_MAX ? [`${lines} lines, ${LINES_MAX} at most`] : [];
}

export function nameFaults(file: string): readonly string[] {
  return path.posix
    .normalize(file)
    .toLowerCase()
    .split(/[/.-]/)
    .filter((part) => BANNED_NAMES.has(part))
    .map((part) => `named ${part}: say what it is`);
}

export const wordFaults = (text: string): readonly string[] => [
  ...all(BANNED_WORDS, text),
  ...all(ESCAPE, withoutComments(text)),
];

export const machineFaults = (text: string): readonly string[] => all(MACHINE_PATHS, text);

export const headerFaults = (text: string): readonly string[] =>
  HEADER.test(text) ? [] : ['no header comment'];

/** Folders that are pure take nothing from Node but types, and no clock, chance or process. */
export function purityFaults(file: string, text: string): readonly string[] {
  const fromNode = importsOf(file, text)
    .filter(({ target, typeOnly }) => target.startsWith('node:') && !typeOnly)
    .map(({ target }) => `imports ${target}`);
  return [...fromNode, ...all(IMPURE, withoutComments(text))];
}

/** The names that the file of limits exports and none of `sources` uses. */
export function unusedLimits(limits: string, sources: readonly string[]): readonly string[] {
  const words = new Set(
    sources.flatMap((text) => all(/\b[A-Z][A-Z\d_]+\b/g, withoutComments(text))),
  );
  return [...limits.matchAll(/^export const (\w+)/gm)]
    .map(([, name = '']) => name)
    .filter((name) => !words.has(name));
}
