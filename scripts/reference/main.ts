/** Writes docs/reference/. */
import { mkdir, writeFile } from 'node:fs/promises';
import { REFERENCE, referencePages } from './pages.ts';

await mkdir(REFERENCE, { recursive: true });
for (const [name, text] of await referencePages()) await writeFile(new URL(name, REFERENCE), text);
