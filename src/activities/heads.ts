/** The heads of one daemon: opened when they are needed, under the newest claim, one owner to each. */
import type { Logger } from 'pino';
import {
  beginSeed,
  endSeed,
  headDirectory,
  ownerOf,
  removeDirectory,
  takeDirectory,
  type HeadDirectory,
} from '../head/directory.ts';
import { HeadOwner } from '../head/owner.ts';
import type { HeadIdentity } from '../head/types.ts';
import { endMongodOn } from '../mongod/process.ts';
import { LifeboatError } from '../shared/errors.ts';
import { memberKey } from '../shared/names.ts';
import type { Stores } from '../stores/connect.ts';
import { findMember, readMember, type MemberFence } from '../stores/members.ts';
import type { DiscardedHead, MemberRecord } from '../stores/records.ts';

export interface HeadsOptions {
  readonly daemon: string;
  readonly dataDir: string;
  readonly logger: Logger;
  /** What a head of that member is run with. */
  readonly mongod: (member: MemberRecord) => Promise<{ readonly binary: string; readonly cacheGiB: number }>;
}

interface HeldHead {
  readonly incarnation: string;
  readonly epoch: number;
  readonly owner: HeadOwner;
}

export class Heads {
  readonly #options: HeadsOptions;
  readonly #held = new Map<string, HeldHead>();
  /** Opening and closing the head of one member take turns. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(options: HeadsOptions) {
    this.#options = options;
  }

  /**
   * The owner of the head under that claim. One that is held under an older claim is closed, and opened anew.
   * @throws LifeboatError `FenceLost` when the claim is not the newest, and what HeadOwner.open throws
   */
  async of(stores: Stores, fence: MemberFence): Promise<HeadOwner> {
    return this.#inTurn(fence.key, async () => {
      const held = this.#held.get(fence.key);
      const incarnation = fence.incarnation.toHexString();
      if (held?.epoch === fence.epoch && held.incarnation === incarnation) return held.owner;
      const member = await this.#ownMember(stores, fence);
      if (held) {
        this.#held.delete(fence.key);
        await held.owner.giveUp();
      }
      const owner = await this.#open(member);
      this.#held.set(fence.key, { incarnation, epoch: fence.epoch, owner });
      return owner;
    });
  }

  /** Removes the head under that claim, if there is one; what is opened next is a new one. */
  async remove(stores: Stores, fence: MemberFence): Promise<void> {
    const owner = await this.of(stores, fence);
    await this.#inTurn(fence.key, async () => {
      if (this.#held.get(fence.key)?.owner === owner) this.#held.delete(fence.key);
      await owner.destroy();
    });
  }

  /** The heads that are held, by the key of their member. */
  held(): { readonly key: string; readonly up: boolean }[] {
    return [...this.#held].map(([key, { owner }]) => ({ key, up: owner.isUp }));
  }

  /** Closes a head, unless it is held under a newer claim. */
  async release(fence: MemberFence): Promise<void> {
    await this.#inTurn(fence.key, async () => {
      const held = this.#held.get(fence.key);
      if (held && held.epoch <= fence.epoch) await this.#close(fence.key, held);
    });
  }

  /**
   * Takes the directory of a head that is to be filled from `snapshot`, whatever stands in it; no mongod runs on it. Until
   * `filled` nobody can open the head.
   * @throws LifeboatError `FenceLost`, `HeadForeign`; `HeadStartFailed`, `DiskFull` (retryable)
   */
  async beginFilling(stores: Stores, fence: MemberFence, snapshot: string): Promise<HeadDirectory> {
    return this.#inTurn(fence.key, async () => {
      const member = await this.#ownMember(stores, fence);
      const held = this.#held.get(fence.key);
      if (held) await this.#close(fence.key, held);
      const identity = identityOf(member);
      const directory = headDirectory(this.#options.dataDir, identity);
      await takeDirectory(directory, identity, fence.epoch);
      await beginSeed(directory, identity, fence.epoch, snapshot);
      return directory;
    });
  }

  /**
   * Ends what `beginFilling` began: all files are there, and durable.
   * @throws LifeboatError `FenceLost`
   */
  async filled(stores: Stores, fence: MemberFence, snapshot: string): Promise<void> {
    await this.#inTurn(fence.key, async () => {
      const identity = identityOf(await this.#ownMember(stores, fence));
      await endSeed(headDirectory(this.#options.dataDir, identity), identity, fence.epoch, snapshot);
    });
  }

  /**
   * Lets go of a head that another daemon has taken over: its mongod is ended, and once the other one's head holds data,
   * its directory removed. Anything that is not surely such a head stays as it is.
   */
  async leave(
    stores: Stores,
    { deployment, member }: { readonly deployment: string; readonly member: string },
  ): Promise<'ours' | 'left' | 'removed'> {
    const key = memberKey(deployment, member);
    return this.#inTurn(key, async () => {
      const directory = headDirectory(this.#options.dataDir, { deployment, member });
      const [owner, record] = await Promise.all([ownerOf(directory), findMember(stores, key)]);
      if (!owner || !record || !isTakenOver(owner, record, this.#options.daemon)) return 'ours';
      const held = this.#held.get(key);
      if (held) await this.#close(key, held);
      if (record.head === null) {
        await endMongodOn(directory.dbpath);
        return 'left';
      }
      await removeDirectory(directory);
      return 'removed';
    });
  }

  /** Removes the head of an incarnation that was purged; one of another incarnation stays. */
  async discard({ deployment, member, incarnation }: DiscardedHead): Promise<void> {
    const key = memberKey(deployment, member);
    await this.#inTurn(key, async () => {
      const directory = headDirectory(this.#options.dataDir, { deployment, member });
      const owner = await ownerOf(directory);
      if (owner?.identity.incarnation !== incarnation.toHexString()) return;
      const held = this.#held.get(key);
      if (held) await this.#close(key, held);
      await removeDirectory(directory);
    });
  }

  async closeAll(): Promise<void> {
    await Promise.all(
      [...this.#held.keys()].map((key) =>
        this.#inTurn(key, async () => {
          const held = this.#held.get(key);
          if (held) await this.#close(key, held);
        }),
      ),
    );
  }

  async #ownMember(stores: Stores, fence: MemberFence): Promise<MemberRecord> {
    const member = await readMember(stores, fence);
    if (member.owner.daemon === this.#options.daemon) return member;
    throw new LifeboatError('FenceLost', `daemon ${member.owner.daemon} owns ${fence.key}`);
  }

  async #open(member: MemberRecord): Promise<HeadOwner> {
    const { dataDir, logger, mongod } = this.#options;
    return HeadOwner.open({
      identity: identityOf(member),
      epoch: member.owner.epoch,
      dataDir,
      logger: logger.child({ head: member._id }),
      ...(await mongod(member)),
    });
  }

  async #close(key: string, { owner }: HeldHead): Promise<void> {
    this.#held.delete(key);
    await owner.close();
  }

  async #inTurn<T>(key: string, run: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(key) ?? Promise.resolve();
    const turn = before.then(run, run);
    this.#turns.set(key, turn);
    return turn;
  }
}

function identityOf({ deployment, member, incarnation, source }: MemberRecord): HeadIdentity {
  return {
    deployment,
    member,
    incarnation: incarnation.toHexString(),
    replicaSetId: source.replicaSetId.toHexString(),
  };
}

/**
 * Whether a head on the disk of `daemon` is one that the record gives to another daemon. The record must be of the same
 * set, and its claim newer than the head's: a blockstore that is not the one the head belongs to says neither.
 */
function isTakenOver(
  owner: { readonly identity: HeadIdentity; readonly epoch: number },
  record: MemberRecord,
  daemon: string,
): boolean {
  const incarnation = record.incarnation.toHexString();
  if (record.owner.daemon === daemon || owner.identity.replicaSetId !== identityOf(record).replicaSetId) return false;
  // A later incarnation is larger: see newIncarnation.
  return owner.identity.incarnation === incarnation
    ? owner.epoch < record.owner.epoch
    : owner.identity.incarnation < incarnation;
}
