import { contract } from './contract.ts'

contract(
  import.meta.glob('../src/[a-d]*.ts', { eager: true }),
  import.meta.glob('./contract/[a-d]*.ts', { eager: true }),
)
