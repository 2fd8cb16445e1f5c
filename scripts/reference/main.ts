/** Writes docs/reference/, and the other pages that are made from the code. */
import { mkdir, writeFile } from 'node:fs/promises';
import { otherPages, REFERENCE, referencePages } from './pages.ts';

await mkdir(REFERENCE, { recursive: true });
for (const [name, text] of [...(await referencePages()), ...(await otherPages())])
  await writeFile(new URL(name, REFERENCE), text);
