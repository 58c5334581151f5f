/** A guest that stands still, as files: what a migration carries, without the migration. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { PagedGuest } from '../../src/guest/driver.ts';
import { descriptorSchema, type VmDescriptor } from '../../src/protocol/descriptor.ts';

const filesIn = (folder: string) => ({
  descriptor: path.join(folder, 'descriptor.json'),
  ram: path.join(folder, 'ram'),
  state: path.join(folder, 'state'),
});

export async function pack(guest: PagedGuest, folder: string): Promise<void> {
  const files = filesIn(folder);
  mkdirSync(folder);
  writeFileSync(files.descriptor, JSON.stringify(await guest.describe()));
  const { stateBytes } = await guest.exportState();
  writeFileSync(files.state, readFileSync(guest.memory.exchangePath).subarray(0, stateBytes));
  copyFileSync(guest.memory.ramPath, files.ram);
}

export const packedDescriptor = (folder: string): VmDescriptor =>
  descriptorSchema.parse(JSON.parse(readFileSync(filesIn(folder).descriptor, 'utf8')));

/** Into the memory of one that was prepared for it; the state is still to be imported. */
export function unpack(folder: string, guest: PagedGuest): void {
  const files = filesIn(folder);
  writeFileSync(guest.memory.ramPath, readFileSync(files.ram), { flag: 'r+' });
  writeFileSync(guest.memory.exchangePath, readFileSync(files.state), { flag: 'r+' });
}
