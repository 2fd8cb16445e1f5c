/**
 * The programs that are measured beside: found where a person has them, never brought along. `LIFEBOAT_BENCH_<NAME>`
 * names one, else it is looked for on the PATH.
 */
import { spawn } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';

export const PEERS = ['mongodump', 'mongorestore', 'restic', 'kopia'] as const;
export type Peer = (typeof PEERS)[number];

/** The peers that are here, and their paths. */
export type Peers = ReadonlyMap<Peer, string>;

export async function findPeers(env: NodeJS.ProcessEnv): Promise<Peers> {
  const found = await Promise.all(PEERS.map(async (peer) => [peer, await findPeer(peer, env)] as const));
  return new Map(found.flatMap(([peer, path]) => (path === undefined ? [] : [[peer, path] as const])));
}

async function findPeer(peer: Peer, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const named = env[`LIFEBOAT_BENCH_${peer.toUpperCase()}`];
  const folders = (env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  for (const path of named === undefined ? folders.map((folder) => join(folder, peer)) : [named]) {
    if (await isExecutable(path)) return path;
  }
  return undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** What a program says first of its version. */
export async function versionOf(peer: Peer, path: string): Promise<string> {
  const { output } = await runPeer(path, peer === 'restic' ? ['version'] : ['--version']);
  return output.split('\n')[0] ?? '';
}

export interface PeerRun {
  readonly seconds: number;
  readonly output: string;
}

/**
 * Runs a program to its end.
 * @throws Error with the end of what it said when it fails
 */
export async function runPeer(path: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<PeerRun> {
  const from = performance.now();
  const child = spawn(path, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const output: string[] = [];
  const said: string[] = [];
  child.stdout.setEncoding('utf8').on('data', (text: string) => output.push(text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => said.push(text));
  const code = await new Promise<number | null>((settle, fail) => {
    child.once('error', fail);
    child.once('close', settle);
  });
  const seconds = (performance.now() - from) / 1000;
  if (code !== 0) throw new Error(`${path} ${args[0] ?? ''} ended with ${code}: ${said.join('').slice(-500)}`);
  return { seconds, output: output.join('') };
}

/**
 * Runs two programs, the output of the first being the input of the second.
 * @returns seconds until both have ended
 */
export async function runPipe(
  [first, firstArgs]: readonly [string, readonly string[]],
  [second, secondArgs]: readonly [string, readonly string[]],
): Promise<number> {
  const from = performance.now();
  const producer = spawn(first, firstArgs, { stdio: ['ignore', 'pipe', 'pipe'] });
  const consumer = spawn(second, secondArgs, { stdio: [producer.stdout, 'ignore', 'pipe'] });
  // The consumer has the pipe now: this end would only keep it open.
  producer.stdout.destroy();
  const ends = await Promise.all(
    [producer, consumer].map(async (child) => {
      const said: string[] = [];
      child.stderr.setEncoding('utf8').on('data', (text: string) => said.push(text));
      const code = await new Promise<number | null>((settle, fail) => {
        child.once('error', fail);
        child.once('close', settle);
      });
      return { code, said: said.join('').slice(-500) };
    }),
  );
  for (const { code, said } of ends)
    if (code !== 0) throw new Error(`${first} | ${second} ended with ${code}: ${said}`);
  return (performance.now() - from) / 1000;
}
