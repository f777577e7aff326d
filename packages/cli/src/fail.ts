/** An error of the user's making: its message is all that is shown. `usage` exits with 2, everything else with 1. */
export class Failure extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

export const usage = (message: string): Failure => new Failure(message, 2)
