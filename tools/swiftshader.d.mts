export declare const softwareVulkan: () => Promise<Record<string, string>>
export declare const run: (
  command: string,
  args: readonly string[],
  options?: { env?: Record<string, string | undefined>; cwd?: string },
) => Promise<number>
