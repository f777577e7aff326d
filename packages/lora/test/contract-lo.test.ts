import { contract } from './contract.ts'

contract(
  import.meta.glob('../src/[l-o]*.ts', { eager: true }),
  import.meta.glob('./contract/[l-o]*.ts', { eager: true }),
)
