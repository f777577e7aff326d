import type { Browser } from 'playwright-core'
export declare const launchBrowser: (options?: { args?: readonly string[] }) => Promise<Browser>
