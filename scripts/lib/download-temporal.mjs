/** `node download-temporal.mjs FOLDER`: lets the SDK's test environment bring the Temporal CLI; prints its path. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TestWorkflowEnvironment } from '@temporalio/testing';

const [, , downloadDir] = process.argv;
try {
  // The download is not to be had without a start of the server.
  const environment = await TestWorkflowEnvironment.createLocal({
    server: { executable: { type: 'cached-download', downloadDir } },
  });
  await environment.teardown();
  const name = (await readdir(downloadDir)).find((entry) => entry.startsWith('temporal-'));
  if (name === undefined) throw new Error('the download left no file');
  console.log(join(downloadDir, name));
} catch (error) {
  console.error(error.message.replaceAll('\n', ' '));
  process.exitCode = 1;
}
