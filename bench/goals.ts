/** What is to be reached, and by what it is measured. */
import type { Goal } from './report.ts';

export function goals(scale: number): Goal[] {
  const pipe = 'mongodump | mongorestore, 4 workers';
  return [
    {
      what: 'head built / the floor',
      ours: 'lifeboat: head built',
      theirs: 'floor: raw find, raw insert, createIndexes',
      bound: { atMost: 1.5 },
    },
    { what: 'head built / the pipe', ours: 'lifeboat: head built', theirs: pipe, bound: { atMost: 1 } },
    { what: 'head validated / the pipe', ours: 'lifeboat: head validated', theirs: pipe, bound: { atMost: 1.5 } },
    {
      what: 'entries applied / mongorestore into a standalone',
      ours: 'lifeboat: entries applied',
      theirs: 'mongorestore --oplogReplay into a standalone',
      bound: { atLeast: 20 },
    },
    {
      what: 'entries applied / mongorestore into a replica set',
      ours: 'lifeboat: entries applied',
      theirs: 'mongorestore --oplogReplay into a replica set',
      bound: { atLeast: 20 },
    },
    {
      what: 'first snapshot / restic, time',
      ours: 'lifeboat: first snapshot',
      theirs: 'restic: first snapshot',
      bound: { atMost: 1 },
    },
    {
      what: 'second snapshot / kopia with zstd, time',
      ours: 'lifeboat: second snapshot',
      theirs: 'kopia: second snapshot',
      bound: { atMost: 1 },
    },
    {
      what: 'first snapshot / restic, stored',
      ours: 'lifeboat: first snapshot, stored',
      theirs: 'restic: first snapshot, stored',
      bound: { atMost: 1 },
    },
    {
      what: 'second snapshot / restic, stored',
      ours: 'lifeboat: second snapshot, stored',
      theirs: 'restic: second snapshot, stored',
      bound: { atMost: 1 },
    },
    {
      what: 'restic / restore, files written',
      ours: 'restic: restore',
      theirs: 'lifeboat: restore, files written',
      bound: { atLeast: 0.7 },
    },
    {
      what: 'worker memory / 700 MB',
      ours: `peak at scale ${scale}`,
      theirs: 700,
      bound: { atMost: 1 },
    },
    {
      what: 'worker memory / that of a tenth of the data',
      ours: `peak at scale ${scale}`,
      theirs: `peak at scale ${scale * 0.1}`,
      bound: { atMost: 1.25 },
    },
    { what: 'events of an idle hour / 500', ours: 'events in its history', theirs: 500, bound: { atMost: 1 } },
  ];
}
