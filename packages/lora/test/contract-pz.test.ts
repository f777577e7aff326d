import { contract } from './contract.ts'

contract(
  import.meta.glob('../src/[p-z]*.ts', { eager: true }),
  import.meta.glob('./contract/[p-z]*.ts', { eager: true }),
)
