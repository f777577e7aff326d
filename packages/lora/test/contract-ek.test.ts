import { contract } from './contract.ts'

contract(
  import.meta.glob('../src/[e-k]*.ts', { eager: true }),
  import.meta.glob('./contract/[e-k]*.ts', { eager: true }),
)
