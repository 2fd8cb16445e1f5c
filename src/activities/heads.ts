/** The heads of one daemon: opened when they are needed, under the newest claim, one owner to each. */
import type { Logger } from 'pino';
import { HeadOwner } from '../head/owner.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, type MemberFence } from '../stores/members.ts';
import type { MemberRecord } from '../stores/records.ts';

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
      const member = await readMember(stores, fence);
      if (member.owner.daemon !== this.#options.daemon) {
        throw new LifeboatError('FenceLost', `daemon ${member.owner.daemon} owns ${fence.key}`);
      }
      if (held) {
        this.#held.delete(fence.key);
        await held.owner.giveUp();
      }
      const owner = await this.#open(member);
      this.#held.set(fence.key, { incarnation, epoch: fence.epoch, owner });
      return owner;
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

  async #open(member: MemberRecord): Promise<HeadOwner> {
    const { dataDir, logger, mongod } = this.#options;
    return HeadOwner.open({
      identity: {
        deployment: member.deployment,
        member: member.member,
        incarnation: member.incarnation.toHexString(),
        replicaSetId: member.source.replicaSetId.toHexString(),
      },
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
