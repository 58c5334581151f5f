/** Pretend signatures: the signer's name and the statement itself, compared by value. */
export type HostName = 'host-a' | 'host-b';

const TAGS: Readonly<Record<HostName, number>> = { 'host-a': 1, 'host-b': 2 };

export const otherThan = (name: HostName): HostName => (name === 'host-a' ? 'host-b' : 'host-a');

export function sign(signer: HostName, statement: Uint8Array): Uint8Array {
  const signature = new Uint8Array(statement.length + 1);
  signature[0] = TAGS[signer];
  signature.set(statement, 1);
  return signature;
}

export function isSignedBy(
  signer: HostName,
  statement: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (signature.length !== statement.length + 1 || signature[0] !== TAGS[signer]) return false;
  return statement.every((byte, at) => byte === signature[at + 1]);
}
