import { cpu } from '@weftjs/tensor'
import { parity } from './parity.ts'

parity(cpu)
