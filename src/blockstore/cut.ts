/** Cutting the files of a head held still into blocks and a manifest. */
import type { LockedHead } from '../head/types.ts';
import type { Progress } from '../shared/messages.ts';
import { sha256 } from '../stores/bytes.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestRecord } from '../stores/records.ts';
import { BLOCK_BYTES } from './blocks.ts';
import { LifeboatError } from '../shared/errors.ts';
import { filesToCut, lockedCheckpoint, PieceReader, type HeadFile } from './head-files.ts';
import { isMetadata, ManifestWriter } from './manifest.ts';
import { ParentBlocks } from './parent.ts';
import { Meter } from '../shared/meter.ts';
import { BlockWriter } from './write-blocks.ts';

export interface CutRequest {
  /** Id of the snapshot the parts are written for. */
  readonly snapshot: string;
  readonly lease: number;
  /** The manifest that the lease holds, or null. */
  readonly parent: ManifestRecord | null;
  /** Aborted when the lease is lost or the work is to end. */
  readonly signal: AbortSignal;
  readonly report: (progress: Progress) => void;
}

/** What the header says of the files. */
export type CutResult = Pick<
  ManifestRecord,
  'parts' | 'sha256' | 'files' | 'logicalBytes' | 'blocks' | 'newBlocks' | 'newStoredBytes' | 'reusedBlocks'
>;

/** Stores every block of a head and the parts of its manifest; when this resolves all of them are durable. */
export async function cutHead(stores: Stores, locked: LockedHead, request: CutRequest): Promise<CutResult> {
  const files = await filesToCut(locked);
  const logicalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const meter = new Meter('snapshot', 'bytes', logicalBytes);
  const writer = new BlockWriter(stores, request.lease, request.signal);
  const manifest = new ManifestWriter(stores, request.snapshot, request.lease);
  const reader = new PieceReader();
  await using parent = new ParentBlocks(stores, request.parent);
  let blocks = 0;
  const cutFile = async (file: HeadFile): Promise<void> => {
    for await (const piece of reader.read(locked.dbpath, file)) {
      request.signal.throwIfAborted();
      for (let at = 0; at < piece.bytes.length; at += BLOCK_BYTES) {
        const raw = piece.bytes.subarray(at, at + BLOCK_BYTES);
        const hash = sha256(raw);
        const offset = piece.offset + at;
        await parent.moveTo(file.path, offset);
        if (parent.has(file.path, offset, hash)) writer.countReused();
        else await writer.add(hash, raw);
        await manifest.add(file.path, file.bytes, offset, hash);
        blocks += 1;
      }
      request.report(meter.add(piece.bytes.length));
    }
    await manifest.endFile(file.path, file.bytes);
  };
  try {
    const checkpoint = await lockedCheckpoint(locked.dbpath);
    for (const file of files.filter(({ path }) => isMetadata(path))) await cutFile(file);
    if ((await lockedCheckpoint(locked.dbpath)) !== checkpoint) {
      throw new LifeboatError('SnapshotLockLost', 'the head made a checkpoint while its metadata was read');
    }
    for (const file of files.filter(({ path }) => !isMetadata(path))) await cutFile(file);
    await writer.flush();
    const parts = await manifest.finish();
    return { ...parts, files: files.length, logicalBytes, blocks, ...writer.counts };
  } catch (error) {
    await writer.quiet();
    throw error;
  }
}
