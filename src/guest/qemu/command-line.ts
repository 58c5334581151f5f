/**
 * The command lines of QEMU and swtpm for a VM: pure. Paths without a folder are in the VM's memory
 * folder, which is the working folder of both. What comes from an operator is given as JSON, in which a
 * comma is only a comma.
 */
import { KiB } from '../../base/units.ts';
import { memoryBytes, type Description } from './description.ts';

/** Names in the memory folder. */
export const RAM = 'ram';
export const QMP_SOCKET = 'qmp.sock';
/** The first serial port; what nobody listens to is dropped. */
export const CONSOLE_SOCKET = 'console.sock';
export const SWTPM_SOCKET = 'swtpm.sock';
/** A link to where the vTPM is at rest. */
export const SWTPM_LINK = 'swtpm';

export interface Identity {
  readonly name: string;
  readonly vmId: string;
}

/** An option and its value. */
type Option = readonly string[];

const listening = (id: string, path: string): Option => [
  '-chardev',
  `socket,id=${id},path=${path},server=on,wait=off`,
];

/** It stands still until its monitor says otherwise, and ends when told to, not when its guest powers off. */
export function qemuArguments({ name, vmId }: Identity, description: Description): string[] {
  const { accelerator, machine, vcpus, tpm } = description;
  const bytes = memoryBytes(description);
  const options: readonly Option[] = [
    ['-name', `guest=${name}`],
    ['-uuid', vmId],
    ['-machine', `${machine},memory-backend=ram`],
    ['-accel', accelerator],
    ['-cpu', description.cpu ?? (accelerator === 'kvm' ? 'host' : 'max')],
    ['-smp', String(vcpus)],
    ['-m', `${bytes / KiB}K`],
    ['-object', JSON.stringify(ramBackend(bytes))],
    ['-nodefaults', '-no-user-config', '-no-shutdown', '-S'],
    ['-display', 'none'],
    ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    listening('qmp', QMP_SOCKET),
    ['-mon', 'chardev=qmp,mode=control'],
    listening('console', CONSOLE_SOCKET),
    ['-serial', 'chardev:console'],
    tpm === 'none' ? [] : tpmOptions(tpm),
    bootOptions(description.boot),
    ...description.disks.map((disk, index) => diskOptions(disk, index)),
    ...description.nics.map((nic, index) => nicOptions(nic, index)),
    description.arguments,
  ];
  return options.flat();
}

/** All of it is taken at once: a guest that found none later would die of it. */
const ramBackend = (size: number) => ({
  'qom-type': 'memory-backend-file',
  id: 'ram',
  size,
  'mem-path': RAM,
  share: true,
  prealloc: true,
});

const tpmOptions = (kind: 'tis' | 'crb'): Option =>
  [
    ['-chardev', `socket,id=swtpm,path=${SWTPM_SOCKET}`],
    ['-tpmdev', 'emulator,id=tpm,chardev=swtpm'],
    ['-device', `tpm-${kind},tpmdev=tpm`],
  ].flat();

function bootOptions(boot: Description['boot']): Option {
  if (boot === undefined) return [];
  const initrd = boot.initrd === undefined ? [] : ['-initrd', boot.initrd];
  return ['-kernel', boot.kernel, ...initrd, '-append', boot.commandLine];
}

function diskOptions(disk: Description['disks'][number], index: number): Option {
  const id = `disk${index}`;
  const { file: filename, format: driver, readOnly } = disk;
  const node = {
    driver,
    'node-name': id,
    'read-only': readOnly,
    file: { driver: 'file', filename },
  };
  const device = { driver: 'virtio-blk-pci', drive: id, id: `${id}-device` };
  return ['-blockdev', JSON.stringify(node), '-device', JSON.stringify(device)];
}

function nicOptions(nic: Description['nics'][number], index: number): Option {
  const id = `nic${index}`;
  const backend =
    nic.kind === 'tap'
      ? { type: 'tap', id, ifname: nic.interface, script: 'no', downscript: 'no' }
      : { type: 'user', id, restrict: true };
  const address = nic.mac === undefined ? {} : { mac: nic.mac };
  const device = { driver: 'virtio-net-pci', netdev: id, id: `${id}-device`, ...address };
  return ['-netdev', JSON.stringify(backend), '-device', JSON.stringify(device)];
}

/** It ends with the connection of its QEMU. */
export const swtpmArguments = (keyFile: string): string[] =>
  [
    ['socket', '--tpm2', '--terminate'],
    ['--tpmstate', `dir=${SWTPM_LINK},mode=0600`],
    ['--key', `file=${SWTPM_LINK}/${keyFile},mode=aes-256-cbc,format=binary`],
    ['--ctrl', `type=unixio,path=${SWTPM_SOCKET},mode=0600`],
  ].flat();
