/** A worker as a process of its own, so that a test can kill it. Arguments: configuration file, home. */
import { runWorker } from '../../src/worker.ts';

const [configFile, home = '.'] = process.argv.slice(2);
const ending = new AbortController();
process.once('SIGTERM', () => ending.abort());
await runWorker({ configFile, home, env: process.env, signal: ending.signal });
