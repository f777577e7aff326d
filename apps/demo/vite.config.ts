import { defaultClientConditions, defineConfig, type Plugin } from 'vite'

/**
 * What the page and its workers may do: nothing from elsewhere, no code from strings; WebAssembly may be compiled. The
 * threads of the wasm backend start from Blobs of our own.
 */
const policy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self' blob:",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self' blob:",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ')

/** alone in its process, the page may share memory among threads */
const isolation = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' }

/** in the page itself, so that it holds on any static server; a worker takes its policy from the header alone */
const meta: Plugin = {
  name: 'content-security-policy',
  apply: 'build',
  transformIndexHtml: () => [
    { tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content: policy }, injectTo: 'head-prepend' },
  ],
}

/** what packages load in Node alone, behind a check: left out of the bundle, not replaced by stand-ins */
const nodeOnly = (): Plugin => ({
  name: 'node-only',
  enforce: 'pre',
  resolveId: (id) =>
    id === 'koffi' || id === 'webgpu' || id.startsWith('node:')
      ? { id, external: true, moduleSideEffects: false }
      : null,
})

/** Packages are bundled from their sources, so that a build of the demo waits for nothing and is never behind them. */
export default defineConfig({
  root: import.meta.dirname,
  base: './',
  // unknown addresses are 404, not this page
  appType: 'mpa',
  plugins: [nodeOnly(), meta],
  resolve: { conditions: ['@weftjs/source', ...defaultClientConditions] },
  worker: { format: 'es', plugins: () => [nodeOnly()] },
  build: {
    target: 'es2023',
    rollupOptions: {
      input: ['index.html', 'comparison.html', 'formats.html'].map((page) => `${import.meta.dirname}/${page}`),
    },
    // the policy knows no data: addresses but for images
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1500,
  },
  server: { fs: { allow: ['../..'] }, headers: isolation },
  preview: {
    host: '127.0.0.1',
    headers: { 'content-security-policy': policy, 'x-content-type-options': 'nosniff', ...isolation },
  },
})
