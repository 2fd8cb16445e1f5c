/** Staying with one member for as long as it can be reached: resume tokens mean nothing on another. */
import { setTimeout as delay } from 'node:timers/promises';
import { isLifeboatError } from '../shared/errors.ts';
import type { PinnedMember, Source } from './connect.ts';

/** How often, and after how long, in milliseconds, a member that went away is tried before another takes its place. */
const ATTEMPTS = 3;
const PAUSE_MS = 2_000;

/**
 * Connects to `preferred` if it is there or comes back soon, else to any member that the configuration wants to be read from.
 * @throws LifeboatError `SourceUnavailable` when none answers
 */
export async function pinPreferred(source: Source, preferred: string, signal: AbortSignal): Promise<PinnedMember> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    signal.throwIfAborted();
    try {
      return await source.pinned(preferred);
    } catch (error) {
      if (!isLifeboatError(error, 'SourceUnavailable')) throw error;
    }
    if (attempt < ATTEMPTS) await delay(PAUSE_MS, undefined, { signal }).catch(() => undefined);
  }
  signal.throwIfAborted();
  return source.pinned();
}

/** The member that several readers share. When one of them loses it, it is found again once for all. */
export class SharedMember implements AsyncDisposable {
  readonly #find: () => Promise<PinnedMember>;
  readonly #moved: (member: PinnedMember) => Promise<void>;
  #current: Promise<PinnedMember> | undefined;
  #last: string;

  /**
   * @param find finds the member to read from now
   * @param moved is told before another member than `last` is used
   */
  constructor(last: string, find: () => Promise<PinnedMember>, moved: (member: PinnedMember) => Promise<void>) {
    this.#last = last;
    this.#find = find;
    this.#moved = moved;
  }

  /** The member; everyone gets the same one. */
  async get(): Promise<PinnedMember> {
    this.#current ??= this.#connect();
    try {
      return await this.#current;
    } catch (error) {
      this.#current = undefined;
      throw error;
    }
  }

  /** Says that `member` is not to be used any more. Whoever comes second finds it replaced. */
  async lose(member: PinnedMember): Promise<void> {
    const current = this.#current;
    if (current && (await current.catch(() => undefined)) === member && this.#current === current) {
      this.#current = undefined;
      await member.close();
    }
  }

  async #connect(): Promise<PinnedMember> {
    const member = await this.#find();
    if (member.host !== this.#last) {
      try {
        await this.#moved(member);
      } catch (error) {
        await member.close();
        throw error;
      }
      this.#last = member.host;
    }
    return member;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const member = await this.#current?.catch(() => undefined);
    this.#current = undefined;
    await member?.close();
  }
}
