/**
 * The processes of this machine, told by their command lines.
 *
 * A stored process id may have come to another process since. What is ours is therefore looked for, and looked at again
 * before it is ended, by the words of its command line: they name a folder that only ours works in.
 */
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

export interface FoundProcess {
  readonly pid: number;
  /** The command line; where the system tells it as one text only, cut at blanks. */
  readonly words: readonly string[];
}

const run = promisify(execFile);

const HAS_PROC = process.platform === 'linux';

/** The command line of a process; undefined when there is none of that id, or it has ended and waits for its parent. */
export async function commandLineOf(pid: number): Promise<readonly string[] | undefined> {
  if (HAS_PROC) return wordsInProc(pid);
  const { stdout } = await run('ps', ['-ww', '-o', 'args=', '-p', String(pid)]).catch(() => ({ stdout: '' }));
  return stdout.trim() === '' ? undefined : stdout.trim().split(' ');
}

async function wordsInProc(pid: number): Promise<readonly string[] | undefined> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return text === '' ? undefined : text.replace(/\0$/, '').split('\0');
}

async function everyProcess(): Promise<FoundProcess[]> {
  if (!HAS_PROC) {
    const { stdout } = await run('ps', ['-axww', '-o', 'pid=,args='], { maxBuffer: 64 << 20 });
    return stdout.split('\n').flatMap((line) => {
      const [pid, ...words] = line.trim().split(/\s+/);
      return words.length === 0 ? [] : [{ pid: Number(pid), words }];
    });
  }
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map(async (pid) => ({ pid, words: await wordsInProc(pid) })));
  return found.flatMap(({ pid, words }) => (words === undefined ? [] : [{ pid, words }]));
}

/** All processes, but this one, whose command line satisfies `matches`. */
export async function findProcesses(matches: (words: readonly string[]) => boolean): Promise<FoundProcess[]> {
  return (await everyProcess()).filter(({ pid, words }) => pid !== process.pid && matches(words));
}

/** True when `flag` is followed by `value`. */
export function hasFlag(words: readonly string[], flag: string, value: string): boolean {
  return words.some((word, index) => word === flag && words[index + 1] === value);
}

/** The value that follows `flag`. */
export function flagValue(words: readonly string[], flag: string): string | undefined {
  const index = words.indexOf(flag);
  return index < 0 ? undefined : words[index + 1];
}

interface ProcessState {
  /** Since the machine started, in ticks: with its id it names a process. */
  readonly startedAt: string;
  /** It has ended, every thread of it: its parent alone has not looked yet. */
  readonly isDead: boolean;
}

/** Undefined when there is none of that id. */
async function stateOf(pid: number): Promise<ProcessState | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The name of the program stands in brackets and may hold anything (proc(5)).
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const threads = await readdir(`/proc/${pid}/task`);
    return { startedAt: fields[19] ?? '', isDead: ['Z', 'X'].includes(fields[0] ?? '') && threads.length <= 1 };
  } catch {
    return undefined;
  }
}

/**
 * Waits until a process that has no command line any more has let go of its files and ports too. The kernel frees its memory
 * first, which takes a while where that is much: until then nobody else gets its locks (do_exit: exit_mm, then exit_files).
 */
async function untilDead(pid: number, before: ProcessState | undefined): Promise<void> {
  for (;;) {
    const state = await stateOf(pid);
    if (!state || state.isDead || state.startedAt !== before?.startedAt) return;
    await delay(10);
  }
}

/** As long as freeing much memory takes, in milliseconds. A thread of the kernel has no command line either, and never ends. */
const LETTING_GO_MS = 30_000;

/** Waits for a process that somebody else has killed, and that has no command line any more, to let go of what it had open. */
export async function untilLetGo(pid: number | undefined): Promise<void> {
  if (pid === undefined) return;
  for (const deadline = Date.now() + LETTING_GO_MS; Date.now() < deadline;) {
    const state = await stateOf(pid);
    if (!state || state.isDead || (await commandLineOf(pid))) return;
    await delay(10);
  }
}

/**
 * Ends a process by SIGTERM, by SIGKILL after `graceMs`, and waits until it is gone, and what it had open with it. Does nothing to a process whose
 * command line is no longer `words`.
 */
export async function endProcess({ pid, words }: FoundProcess, graceMs: number): Promise<void> {
  const isStillIt = async (): Promise<boolean> => (await commandLineOf(pid))?.join('\0') === words.join('\0');
  const before = await stateOf(pid);
  const killAt = Date.now() + graceMs;
  let sent: NodeJS.Signals | undefined;
  while (await isStillIt()) {
    const due = Date.now() > killAt ? 'SIGKILL' : 'SIGTERM';
    if (sent !== due) {
      sent = due;
      send(pid, due);
    }
    await delay(30);
  }
  if (sent) await untilDead(pid, before);
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It ended between the look and the signal.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
