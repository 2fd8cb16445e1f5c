/** Lifeboat as a person uses it: its command line, with a home of its own. */
import { spawn } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MongoClient, type Document } from 'mongodb';
import type { MemberRecord } from '../src/stores/records.ts';

const LAUNCHER = fileURLToPath(new URL('../bin/lifeboat.mjs', import.meta.url));

export const DEPLOYMENT = 'bench';

interface Up {
  readonly temporal: { readonly address: string };
  readonly blockstore: { readonly uri: string };
  readonly worker: { readonly pid: number };
}

export class Product implements AsyncDisposable {
  readonly #home: string;
  readonly #sourceUri: string;
  #up: Up | undefined;
  #stores: MongoClient | undefined;

  constructor(folder: string, sourceUri: string) {
    this.#home = join(folder, 'home');
    this.#sourceUri = sourceUri;
  }

  get running(): Up {
    if (!this.#up) throw new Error('the product is not up');
    return this.#up;
  }

  /** The folder of the head's files. */
  get headDbpath(): string {
    return join(this.#home, 'daemon', 'heads', DEPLOYMENT, 'src', 'db');
  }

  /** Runs a command and gives back its JSON document. */
  async run<T>(...words: readonly string[]): Promise<T> {
    const flags = ['--home', this.#home, '--config', join(this.#home, 'lifeboat.yaml'), '--json'];
    const child = spawn(process.execPath, [LAUNCHER, ...flags, ...words], {
      env: { ...process.env, LIFEBOAT_BENCH_SOURCE: this.#sourceUri },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const output: string[] = [];
    child.stdout.setEncoding('utf8').on('data', (text: string) => output.push(text));
    const code = await new Promise<number | null>((settle, fail) => {
      child.once('error', fail);
      child.once('close', settle);
    });
    if (code !== 0) throw new Error(`lifeboat ${words.join(' ')} ended with ${code}: ${output.join('')}`);
    return JSON.parse(output.join('')) as T;
  }

  async start(): Promise<void> {
    await mkdir(this.#home, { recursive: true });
    this.#up = await this.run<Up>('up', '--detach');
    this.#stores = await MongoClient.connect(this.#up.blockstore.uri);
    const { deployments } = await this.run<{ deployments: readonly { name: string }[] }>('deployments', 'list');
    if (deployments.length === 0)
      await this.run('deployments', 'add', DEPLOYMENT, '--uri-env', 'LIFEBOAT_BENCH_SOURCE');
  }

  async stop(): Promise<void> {
    await this.#stores?.close();
    this.#stores = undefined;
    if (this.#up) await this.run('down');
    this.#up = undefined;
  }

  /** The record of the one member, as it is now. */
  async member(): Promise<MemberRecord | undefined> {
    const records = this.#stores?.db('lifeboat').collection<MemberRecord & Document>('members');
    return (await records?.findOne({ deployment: DEPLOYMENT })) ?? undefined;
  }

  /** One record of the blockstore database. */
  async record(collection: string, filter: Document): Promise<Document | undefined> {
    return (await this.#stores?.db('lifeboat').collection(collection).findOne(filter)) ?? undefined;
  }

  /** Peak resident memory of the worker until now, in bytes. */
  async workerPeakBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.running.worker.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Waits until `look` gives something, looking often: what is waited for is being timed. */
export async function watch<T>(look: () => Promise<T | undefined>, everyMs = 50): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await delay(everyMs);
  }
}
