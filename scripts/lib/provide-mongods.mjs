/** The mongods of other versions, for the tests that run several. */
import { provideMongods } from './mongods.mjs';
import { main } from './project.mjs';

await main(provideMongods);
