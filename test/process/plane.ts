/**
 * Over which data plane a test's migrations go when it does not say: one channel of form `tls`, or what
 * `MIGD_TEST_PLANE` says, as in `MIGD_TEST_PLANE=4,sealed npx tap run`. So every test of refusals, kills and
 * attacks can be run over each.
 */
import { CHANNEL_FORMS, type ChannelForm } from '../../src/protocol/options.ts';

export interface Plane {
  readonly channels: number;
  readonly form: ChannelForm;
}

export const PLANES: readonly Plane[] = [1, 4].flatMap((channels) =>
  CHANNEL_FORMS.map((form) => ({ channels, form })),
);
export const CHANNELS_USED_MAX = 4;

export const planeTitle = ({ channels, form }: Plane): string => `${channels},${form}`;

function chosen(): Plane {
  const asked = process.env['MIGD_TEST_PLANE'] ?? '1,tls';
  const plane = PLANES.find((each) => planeTitle(each) === asked);
  if (plane === undefined) throw new Error(`MIGD_TEST_PLANE: ${PLANES.map(planeTitle).join(' ')}`);
  return plane;
}

export const PLANE = chosen();
