/** Descriptions of VMs: what is let through, what QEMU is then told, what it must not be. */
import { test } from 'tap';
import { qemuArguments } from '../../../../src/guest/qemu/command-line.ts';
import {
  descriptionSchema,
  memoryBytes,
  refuseUnsafe,
} from '../../../../src/guest/qemu/description.ts';

const parse = (more: object) => descriptionSchema.safeParse({ memory: '131064K', ...more });

const IDENTITY = { name: 'vm1', vmId: '01890a5d-ac96-774b-bcce-b302099a8057' };

void test('the smallest description', (t) => {
  const description = descriptionSchema.parse({ memory: '2G' });
  t.equal(memoryBytes(description), 2 * 2 ** 30);
  t.match(description, { machine: 'q35', accelerator: 'kvm', vcpus: 1, tpm: 'tis' });
  // What is kept on disk is read by the same schema.
  t.same(descriptionSchema.parse(JSON.parse(JSON.stringify(description))), description);
  t.end();
});

void test('bounds, at and past', (t) => {
  const disk = { file: '/srv/a.img' };
  const nic = { kind: 'user' };
  const cases: readonly (readonly [object, boolean])[] = [
    [{ memory: '1M' }, true],
    [{ memory: '1020K' }, false],
    [{ memory: '1024G' }, true],
    [{ memory: '1025G' }, false],
    [{ memory: '131065K' }, false],
    [{ memory: 131_064 }, false],
    [{ memory: '1T' }, false],
    [{ vcpus: 64 }, true],
    [{ vcpus: 65 }, false],
    [{ vcpus: 0 }, false],
    [{ disks: Array.from({ length: 16 }, () => disk) }, true],
    [{ disks: Array.from({ length: 17 }, () => disk) }, false],
    [{ disks: [{ file: 'a.img' }] }, false],
    [{ disks: [{ file: '/a\nb' }] }, false],
    [{ nics: Array.from({ length: 8 }, () => nic) }, true],
    [{ nics: Array.from({ length: 9 }, () => nic) }, false],
    [{ nics: [{ kind: 'tap' }] }, false],
    [{ nics: [{ kind: 'tap', interface: 'tap0', mac: '52:54:00:12:34:56' }] }, true],
    [{ nics: [{ kind: 'tap', interface: 'tap0,script=/bin/sh' }] }, false],
    [{ nics: [{ kind: 'user', mac: '52:54:00:12:34' }] }, false],
    [{ machine: 'pc-q35-7.2' }, true],
    [{ machine: 'q35,accel=kvm' }, false],
    [{ cpu: 'max,+aes' }, true],
    [{ cpu: '-daemonize' }, false],
    [{ tpm: 'none' }, true],
    [{ tpm: 'swtpm' }, false],
    [{ arguments: ['-device', 'virtio-rng-pci'] }, true],
    [{ arguments: Array.from({ length: 65 }, () => '-s') }, false],
    [{ arguments: ['x'.repeat(4096)] }, true],
    [{ arguments: ['x'.repeat(4097)] }, false],
    [{ arguments: ['--daemonize'] }, false],
    [{ arguments: ['-incoming', 'tcp::1'] }, false],
    [{ boot: {} }, false],
    [{ colour: 'red' }, false],
  ];
  for (const [more, isFine] of cases) t.equal(parse(more).success, isFine, JSON.stringify(more));
  t.end();
});

void test('names are QEMU’s as they are, whatever is in them', (t) => {
  const file = '/srv/a,file.locking=off.img';
  const description = descriptionSchema.parse({
    memory: '131064K',
    accelerator: 'tcg',
    disks: [{ file, format: 'qcow2', readOnly: true }],
    nics: [{ kind: 'user' }],
    boot: { kernel: '/boot/vmlinuz', commandLine: 'quiet x=1,2' },
    arguments: ['-device', 'virtio-rng-pci'],
  });
  const told = qemuArguments(IDENTITY, description);
  const after = (option: string) => told[told.indexOf(option) + 1] ?? '';
  t.match(JSON.parse(after('-blockdev')), {
    driver: 'qcow2',
    'read-only': true,
    file: { filename: file },
  });
  t.equal(after('-append'), 'quiet x=1,2');
  t.equal(after('-m'), '131064K');
  t.match(JSON.parse(after('-object')), { size: 131_064 * 1024, share: true });
  t.same(told.slice(-2), ['-device', 'virtio-rng-pci']);
  t.equal(told.includes('-initrd'), false);
  const without = qemuArguments(IDENTITY, descriptionSchema.parse({ memory: '1G', tpm: 'none' }));
  t.equal(without.includes('-tpmdev'), false);
  t.equal(without.includes('-kernel'), false);
  t.end();
});

/** The code with which a size is refused. */
const refused = (memory: string, major: number, accelerator = 'tcg'): unknown => {
  try {
    const description = descriptionSchema.parse({ memory, accelerator });
    return refuseUnsafe(description, { major, minor: 2, micro: 0 });
  } catch (thrown) {
    return (thrown as { code?: unknown }).code;
  }
};

void test('RAM that a QEMU damages', (t) => {
  t.equal(refused('256M', 7), 'VM_UNSAFE');
  t.equal(refused('256M', 8), 'VM_UNSAFE');
  t.equal(refused('131328K', 7), 'VM_UNSAFE', 'an odd multiple of 256 KiB');
  t.equal(refused('262136K', 7), undefined);
  t.equal(refused('256M', 9), undefined);
  t.equal(refused('256M', 7, 'kvm'), undefined);
  t.end();
});
