import { expect, it } from 'vitest'
import { mended, missing } from '../lock.ts'

const lock = {
  packages: {
    '': { optionalDependencies: { fsevents: '~2.3.3' } },
    'node_modules/fast': {
      version: '1.2.3',
      dev: true,
      resolved: 'https://mirror.example/fast.tgz',
      optionalDependencies: {
        '@fast/darwin-arm64': '1.2.3',
        '@fast/linux-x64-gnu': '1.2.3',
        '@fast/linux-arm-musleabihf': '1.2.3',
        '@fast/windows-64': '1.2.3',
      },
    },
    'node_modules/fast/node_modules/@fast/linux-x64-gnu': { version: '1.2.3' },
  },
}

it('gives every platform its entry, and no address', () => {
  expect(missing(lock).map(({ name, entry }) => [name, entry])).toEqual([
    ['@fast/darwin-arm64', { version: '1.2.3', cpu: ['arm64'], dev: true, optional: true, os: ['darwin'] }],
    [
      '@fast/linux-arm-musleabihf',
      { version: '1.2.3', cpu: ['arm'], dev: true, libc: ['musl'], optional: true, os: ['linux'] },
    ],
    ['@fast/windows-64', { version: '1.2.3', cpu: ['x64'], dev: true, optional: true, os: ['win32'] }],
  ])
  const text = mended(JSON.stringify(lock))
  expect(text).not.toContain('mirror')
  expect(missing(JSON.parse(text))).toEqual([])
  expect(mended(text)).toBe(text)
})
