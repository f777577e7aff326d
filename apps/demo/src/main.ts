import { createApp } from './app.ts'
import { adapterFiles } from './parts/adapter.ts'
import { comparison } from './parts/compare.ts'
import { device } from './parts/device.ts'
import { modelChoice } from './parts/model.ts'
import { textChoice } from './parts/text.ts'
import { trainer } from './parts/train.ts'

const app = createApp()
const load = modelChoice(app)
textChoice(app)
const write = comparison(app)
trainer(app, write)
adapterFiles(app)
device(app, load)
