/**
 * The files of a snapshot on disk.
 *
 * No record says which blocks are there: each is read back and compared with its hash, which is faster than fetching
 * it and true whatever happened to the disk in between. So beginning, resuming and proving are one pass, run twice.
 */
import { constants } from 'node:fs';
import { mkdir, open, readdir, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { TaskGroup } from '../blockstore/gate.ts';
import { placesOf, readRuns, type BlockPlace } from '../blockstore/manifest.ts';
import { Meter } from '../shared/meter.ts';
import { BLOCKS_AT_ONCE, readBlocks, READS_IN_FLIGHT } from '../blockstore/read-blocks.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Progress } from '../shared/messages.ts';
import { sha256 } from '../stores/bytes.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestRecord } from '../stores/records.ts';

export interface FilesRequest {
  readonly stores: Stores;
  readonly manifest: ManifestRecord;
  /** The folder that becomes the dbpath. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly report: (progress: Progress) => void;
}

export interface FilesResult {
  readonly fetchedBlocks: number;
  /** Blocks that were there already. */
  readonly foundBlocks: number;
}

/** A place, and whether its file held anything before this run. */
interface WantedPlace extends BlockPlace {
  readonly mayBeThere: boolean;
}

/**
 * Makes the folder hold exactly the files of the manifest, fetching only blocks that are not there yet.
 * @throws LifeboatError `BlockMissing`, `BlockDamaged`, `ManifestDamaged`
 */
export async function fillFiles(request: FilesRequest): Promise<FilesResult> {
  const { stores, manifest, folder, signal, report } = request;
  await removeOthers(request);
  const meter = new Meter('files', 'bytes', manifest.logicalBytes);
  let fetchedBlocks = 0;
  let foundBlocks = 0;
  const bring = async (group: readonly WantedPlace[]): Promise<void> => {
    const missing: WantedPlace[] = [];
    for (const places of byFile(group)) missing.push(...(await notOnDisk(folder, places)));
    await fetchInto(stores, manifest._id, folder, missing, signal);
    fetchedBlocks += missing.length;
    foundBlocks += group.length - missing.length;
    report(meter.add(group.reduce((sum, { bytes }) => sum + bytes, 0)));
  };
  await inGroups(wantedPlaces(request), signal, bring);
  return { fetchedBlocks, foundBlocks };
}

/**
 * Reads every file back from disk, makes it durable and compares it with the manifest.
 * @throws LifeboatError `RestoreProofFailed` when a block is not what was written
 */
export async function proveFiles({ stores, manifest, folder, signal, report }: FilesRequest): Promise<void> {
  const meter = new Meter('proof: hashes', 'bytes', manifest.logicalBytes);
  async function* places(): AsyncGenerator<WantedPlace, void, void> {
    for await (const run of readRuns(stores, manifest)) {
      if (run.offset === 0) await syncFile(join(folder, run.path), run.fileBytes);
      for (const place of placesOf(run, manifest.blockSize)) yield { ...place, mayBeThere: true };
    }
  }
  await inGroups(places(), signal, async (group) => {
    for (const ofFile of byFile(group)) {
      const [wrong] = await notOnDisk(folder, ofFile);
      if (wrong) {
        throw new LifeboatError('RestoreProofFailed', `file ${wrong.path} reads back differently at ${wrong.offset}`);
      }
    }
    report(meter.add(group.reduce((sum, { bytes }) => sum + bytes, 0)));
  });
}

/** Removes what an interrupted run or its mongod left beside the files of the manifest; a journal above all. */
async function removeOthers({ stores, manifest, folder }: FilesRequest): Promise<void> {
  const ours = new Set<string>();
  for await (const run of readRuns(stores, manifest)) ours.add(run.path);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    const full = join(entry.parentPath, entry.name);
    if (!entry.isDirectory() && !ours.has(relative(folder, full).split(sep).join('/'))) await rm(full, { force: true });
  }
}

/** The blocks of a manifest in order; each file is made, and given its length, before its first block comes. */
async function* wantedPlaces({ stores, manifest, folder }: FilesRequest): AsyncGenerator<WantedPlace, void, void> {
  let mayBeThere = false;
  for await (const run of readRuns(stores, manifest)) {
    if (run.offset === 0) mayBeThere = await makeFile(join(folder, run.path), run.fileBytes);
    for (const place of placesOf(run, manifest.blockSize)) yield { ...place, mayBeThere };
  }
}

/** Whether the file held anything before. */
async function makeFile(path: string, bytes: number): Promise<boolean> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    const { size } = await handle.stat();
    if (size !== bytes) await handle.truncate(bytes);
    return size > 0;
  } finally {
    await handle.close();
  }
}

async function syncFile(path: string, bytes: number): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    await handle.sync();
    const { size } = await handle.stat();
    if (size !== bytes) throw new LifeboatError('RestoreProofFailed', `${path} has ${size} bytes instead of ${bytes}`);
  } finally {
    await handle.close();
  }
}

/** Runs `work` on groups of places, a few groups at once; the first failure ends it. */
async function inGroups(
  places: AsyncGenerator<WantedPlace, void, void>,
  signal: AbortSignal,
  work: (group: readonly WantedPlace[]) => Promise<void>,
): Promise<void> {
  const tasks = new TaskGroup(READS_IN_FLIGHT);
  const run = (group: readonly WantedPlace[]): Promise<void> =>
    tasks.add(async () => {
      signal.throwIfAborted();
      await work(group);
    });
  try {
    let group: WantedPlace[] = [];
    for await (const place of places) {
      if (group.push(place) < BLOCKS_AT_ONCE) continue;
      await run(group);
      group = [];
    }
    if (group.length > 0) await run(group);
    await tasks.settle();
  } finally {
    await tasks.quiet();
  }
}

/** Cuts a group where the file changes. */
function* byFile(group: readonly WantedPlace[]): Generator<readonly WantedPlace[], void, void> {
  let from = 0;
  for (let at = 1; at <= group.length; at += 1) {
    if (group[at]?.path === group[from]?.path) continue;
    yield group.slice(from, at);
    from = at;
  }
}

/** Of consecutive places of one file, those whose bytes on disk are not what they are to be. */
async function notOnDisk(folder: string, places: readonly WantedPlace[]): Promise<readonly WantedPlace[]> {
  const [first, last] = [places[0], places.at(-1)];
  if (!first || !last || !first.mayBeThere) return places;
  const bytes = Buffer.allocUnsafe(last.offset + last.bytes - first.offset);
  const handle = await open(join(folder, first.path), 'r');
  try {
    const have = await readFully(handle, bytes, first.offset);
    return places.filter((place) => {
      const at = place.offset - first.offset;
      return at + place.bytes > have || !sha256(bytes.subarray(at, at + place.bytes)).equals(place.hash);
    });
  } finally {
    await handle.close();
  }
}

async function readFully(handle: FileHandle, into: Buffer, position: number): Promise<number> {
  let have = 0;
  while (have < into.length) {
    const { bytesRead } = await handle.read(into, have, into.length - have, position + have);
    if (bytesRead === 0) break;
    have += bytesRead;
  }
  return have;
}

async function fetchInto(
  stores: Stores,
  snapshot: string,
  folder: string,
  places: readonly WantedPlace[],
  signal: AbortSignal,
): Promise<void> {
  if (places.length === 0) return;
  const blocks = await readBlocks(stores, snapshot, places, signal);
  for (const block of blocks) if (block instanceof LifeboatError) throw block;
  const bytesOf = new Map(places.map((place, index) => [place, blocks[index] as Buffer]));
  for (const ofFile of byFile(places)) {
    const handle = await open(join(folder, ofFile[0]?.path ?? ''), 'r+');
    try {
      for (const run of consecutive(ofFile)) {
        const buffers = run.map((place) => bytesOf.get(place) as Buffer);
        await writeFully(handle, buffers, run[0]?.offset ?? 0);
      }
    } finally {
      await handle.close();
    }
  }
}

/** Cuts places of one file where there is a gap between two. */
function* consecutive(places: readonly WantedPlace[]): Generator<readonly WantedPlace[], void, void> {
  let from = 0;
  for (let at = 1; at <= places.length; at += 1) {
    const [before, place] = [places[at - 1], places[at]];
    if (before && place && before.offset + before.bytes === place.offset) continue;
    yield places.slice(from, at);
    from = at;
  }
}

async function writeFully(handle: FileHandle, buffers: readonly Buffer[], position: number): Promise<void> {
  const total = buffers.reduce((sum, { length }) => sum + length, 0);
  const { bytesWritten } = await handle.writev(buffers, position);
  if (bytesWritten === total) return;
  // A disk that runs full writes a part first; the next write says so.
  const rest = Buffer.concat(buffers).subarray(bytesWritten);
  for (let done = 0; done < rest.length;) {
    done += (await handle.write(rest, done, rest.length - done, position + bytesWritten + done)).bytesWritten;
  }
}
